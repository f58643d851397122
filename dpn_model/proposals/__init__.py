"""Where boxes come from that a model is shown: files, detectors, jittered true boxes (spec chatrex 2)."""
