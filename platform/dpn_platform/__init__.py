"""The experiment machine: config, storage, data, training, sweeps, tracking, evaluation, reports, services, cli."""
