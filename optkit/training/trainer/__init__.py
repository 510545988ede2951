"""transformers' Trainer set up for optkit: settings, batches, the processes of one job."""
