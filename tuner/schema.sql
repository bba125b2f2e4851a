-- Schema 3 of the tuning cache. Every row carries a checksum over its other columns, formed by flex_checksum();
-- an environment and a layer are known by it.

CREATE TABLE environments (
  id INTEGER PRIMARY KEY,  -- checksum of the columns below
  device TEXT NOT NULL,
  intra_node TEXT NOT NULL,
  inter_node TEXT NOT NULL,
  driver TEXT NOT NULL,
  cuda TEXT NOT NULL,
  nccl TEXT NOT NULL,
  build TEXT NOT NULL,
  world INTEGER NOT NULL,
  ranks_per_node INTEGER NOT NULL,
  ranks_per_device INTEGER NOT NULL
) STRICT;

CREATE TABLE layers (
  id INTEGER PRIMARY KEY,  -- checksum of the columns below
  num_experts INTEGER NOT NULL,
  top_k INTEGER NOT NULL,
  model_dim INTEGER NOT NULL,
  hidden_dim INTEGER NOT NULL,
  dtype TEXT NOT NULL,
  ffn TEXT NOT NULL,
  fc1_bias INTEGER NOT NULL,
  fc2_bias INTEGER NOT NULL,
  train_fc2_bias INTEGER NOT NULL,
  is_postscore INTEGER NOT NULL,
  gate TEXT NOT NULL,
  projection_dim INTEGER NOT NULL,
  gate_noise INTEGER NOT NULL,
  gate_loss INTEGER NOT NULL,
  global_loss_scope INTEGER NOT NULL,
  dropless INTEGER NOT NULL,
  regather_weights INTEGER NOT NULL
) STRICT;

-- The rows of a case stand together, and no second index can disagree with them.
CREATE TABLE trials (
  environment INTEGER NOT NULL REFERENCES environments (id),
  layer INTEGER NOT NULL REFERENCES layers (id),
  pass INTEGER NOT NULL,              -- 0 forward, 1 backward
  given_degree INTEGER NOT NULL,      -- r that the pass must use, -1 where it is free
  capacity_bucket INTEGER NOT NULL,   -- floor(C / 128)
  imbalance_bucket INTEGER NOT NULL,  -- floor(2 log2(max / mean))
  id INTEGER NOT NULL,                -- over the case and what was observed
  plan TEXT NOT NULL,                 -- 'r2 d4 2dh'
  outcome TEXT NOT NULL,              -- 'correct', or why it did not run
  source TEXT NOT NULL,               -- 'measured', 'simulated', 'imported'
  origin TEXT NOT NULL,
  num_tokens INTEGER NOT NULL,
  capacity INTEGER NOT NULL,
  num_warmup INTEGER NOT NULL,
  num_repeats INTEGER NOT NULL,
  samples_ns BLOB NOT NULL,           -- 64-bit little-endian integers
  median_ns INTEGER NOT NULL,
  spread_ns INTEGER NOT NULL,
  measured_at_ns INTEGER NOT NULL,    -- since 1970-01-01 UTC
  checksum INTEGER NOT NULL,
  device_clock_MHz INTEGER NOT NULL DEFAULT 0,  -- since schema 2; 0: not known
  PRIMARY KEY (environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
  environment INTEGER NOT NULL REFERENCES environments (id),
  layer INTEGER NOT NULL REFERENCES layers (id),
  pass INTEGER NOT NULL,
  given_degree INTEGER NOT NULL,
  capacity_bucket INTEGER NOT NULL,
  imbalance_bucket INTEGER NOT NULL,
  plan TEXT NOT NULL,
  source TEXT NOT NULL,
  is_complete INTEGER NOT NULL,        -- 1: the search came to its own end
  strategy TEXT NOT NULL,
  median_ns INTEGER NOT NULL,
  default_median_ns INTEGER NOT NULL,
  plan_trial INTEGER NOT NULL,         -- trials.id that median_ns is of
  default_trial INTEGER NOT NULL,      -- trials.id that default_median_ns is of
  num_trials INTEGER NOT NULL,         -- that were compared
  decided_at_ns INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  PRIMARY KEY (environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket)
) STRICT, WITHOUT ROWID;

-- What operations took, from which cost models are fitted. Replaced part by part.
CREATE TABLE samples (
  environment INTEGER NOT NULL REFERENCES environments (id),
  part TEXT NOT NULL,                 -- what was measured together, e.g. 'bf16 T4096 M1024 H1024 E4 k2 f1, r1 d2 linear'
  number INTEGER NOT NULL,            -- of the line in its part
  line TEXT NOT NULL,                 -- a cost sample in JSON
  measured_at_ns INTEGER NOT NULL,    -- since 1970-01-01 UTC
  checksum INTEGER NOT NULL,
  PRIMARY KEY (environment, part, number)
) STRICT, WITHOUT ROWID;
