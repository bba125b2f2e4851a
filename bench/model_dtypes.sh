#!/usr/bin/env bash
# bench/model_dtypes.sh FLEXMOE CONFIG OUTPUT_FOLDER [STEPS] [BATCH]: trains one model in fp32, bf16 and fp16 from the same seed on one GPU,
# and prints how far the losses of the narrow types are from those of fp32: the largest and the mean of |loss / fp32's - 1|.
set -euo pipefail
flexmoe=$1 config=$2 out=$3 steps=${4:-200} batch=${5:-32}
for dtype in fp32 bf16 fp16; do
  python3 - "$config" "$dtype" "$batch" >"$out/$dtype.config.json" <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))
config["training"].update({"dtype": sys.argv[2], "batch_size": int(sys.argv[3])})
json.dump(config, sys.stdout)
PYTHON
  "$flexmoe" train "$out/$dtype.config.json" --device cuda:0 --ranks 1 --steps "$steps" --json >"$out/$dtype.losses.json"
done
python3 - "$out" <<'PYTHON'
import json, sys
def losses(dtype):
    return [step["loss"] for step in json.load(open(f"{sys.argv[1]}/{dtype}.losses.json"))["steps"]]
reference = losses("fp32")
print(f"fp32: {len(reference)} steps, loss {reference[0]:.4f} to {reference[-1]:.4f}")
for dtype in ("bf16", "fp16"):
    other = losses(dtype)
    off = [abs(a / b - 1) for a, b in zip(other, reference)]
    print(f"{dtype}: {len(other)} steps, to {other[-1]:.4f}; off by {100 * sum(off) / len(off):.2f}% on average, {100 * max(off):.2f}% at most")
PYTHON
