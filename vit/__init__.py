"""The trainer that runs inside the pods: `python -m vit.train FLAGS`, one process per accelerator."""
