# Completed with the export of targets.
