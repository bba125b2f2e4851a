-- What operations took, from which cost models are fitted.
CREATE TABLE samples (
  environment INTEGER NOT NULL REFERENCES environments (id),
  part TEXT NOT NULL,
  number INTEGER NOT NULL,
  line TEXT NOT NULL,
  measured_at_ns INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  PRIMARY KEY (environment, part, number)
) STRICT, WITHOUT ROWID;
