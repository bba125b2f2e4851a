-- Trials say at which clock the device ran. Rows whose checksum is right get one that counts the new column; the
-- others stay bad.
ALTER TABLE trials ADD COLUMN device_clock_MHz INTEGER NOT NULL DEFAULT 0;

UPDATE trials SET checksum = flex_checksum(
  environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket, id, plan, outcome, source, origin,
  num_tokens, capacity, num_warmup, num_repeats, samples_ns, median_ns, spread_ns, measured_at_ns, device_clock_MHz)
WHERE checksum = flex_checksum(
  environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket, id, plan, outcome, source, origin,
  num_tokens, capacity, num_warmup, num_repeats, samples_ns, median_ns, spread_ns, measured_at_ns);
