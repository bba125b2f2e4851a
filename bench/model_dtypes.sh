#!/usr/bin/env bash
# bench/model_dtypes.sh FLEXMOE CONFIG OUTPUT_FOLDER [STEPS] [BATCH] [LEARNING_RATE] [CLASSES] [DEVICE] [DTYPES]: trains one model in fp32,
# bf16 and fp16 (loss scaling) from the same seed, at the same time on one GPU, and compares the losses of each step: a table, and
# model_dtypes.json in the folder. Fails if a loss is off by more than 2% of fp32's. Few classes, so that these steps teach something; the
# loss is smoothed, so that it stays away from 0, where a relative difference says nothing. Making the images takes most of the time.
set -euo pipefail
flexmoe=$1 config=$2 out=$3 steps=${4:-200} batch=${5:-16} rate=${6:-2e-4} classes=${7:-100} device=${8:-cuda:0}
read -ra dtypes <<<"${9:-fp32 bf16 fp16}"
mkdir -p "$out"
jobs=()
for dtype in "${dtypes[@]}"; do
  python3 - "$config" "$dtype" "$batch" "$rate" "$classes" "$steps" >"$out/$dtype.config.json" <<'PYTHON'
import json, sys
path, dtype, batch, rate, classes, steps = sys.argv[1:]
config = json.load(open(path))
config["num_classes"] = int(classes)
config["training"].update({"dtype": dtype, "batch_size": int(batch), "learning_rate": float(rate), "warmup_steps": int(steps) // 10,
                           "label_smoothing": 0.1})
json.dump(config, sys.stdout)
PYTHON
  "$flexmoe" train "$out/$dtype.config.json" --device "$device" --ranks 1 --steps "$steps" --json >"$out/$dtype.losses.json" 2>"$out/$dtype.err" &
  jobs+=($!)
done
for i in "${!jobs[@]}"; do
  wait "${jobs[$i]}" || { echo "${dtypes[$i]}: exit $?"; tail -3 "$out/${dtypes[$i]}.err"; exit 1; }
done
python3 - "$out" "${dtypes[@]}" <<'PYTHON'
import json, sys
folder, first, *others = sys.argv[1:]
LIMIT = 0.02
def steps_of(dtype):
    return json.load(open(f"{folder}/{dtype}.losses.json"))["steps"]
reference = [step["loss"] for step in steps_of(first)]
rows = [{"dtype": first, "steps": len(reference), "first_loss": reference[0], "last_loss": reference[-1]}]
print(f"{'type':5} {'steps':>5} {'skipped':>7} {'first':>8} {'last':>8} {'mean off':>9} {'most off':>9}  at step")
print(f"{first:5} {len(reference):5} {0:7} {reference[0]:8.4f} {reference[-1]:8.4f}")
follows = True
for dtype in others:
    steps = steps_of(dtype)
    losses = [step["loss"] for step in steps]
    # A loss that is not a number is never within the limit.
    off = [abs(loss / right - 1) if abs(loss) < float("inf") else float("inf") for loss, right in zip(losses, reference)]
    most = max(range(len(off)), key=off.__getitem__)
    skipped = sum(not step["updated"] for step in steps)
    follows = follows and len(losses) == len(reference) and off[most] <= LIMIT
    rows.append({"dtype": dtype, "steps": len(losses), "skipped_steps": skipped, "first_loss": losses[0], "last_loss": losses[-1],
                 "mean_difference": sum(off) / len(off), "largest_difference": off[most], "largest_at_step": most + 1})
    print(f"{dtype:5} {len(losses):5} {skipped:7} {losses[0]:8.4f} {losses[-1]:8.4f} {100 * sum(off) / len(off):8.3f}% {100 * off[most]:8.3f}%  {most + 1}")
print(f"within {100 * LIMIT:g}% of {first}: {'yes' if follows else 'NO'}")
json.dump({"limit": LIMIT, "follows": follows, "types": rows}, open(f"{folder}/model_dtypes.json", "w"), indent=2)
sys.exit(0 if follows else 1)
PYTHON
