"""UPN, the proposal network of ChatRex, for inference: a DETR of one class, whose prompt sets what counts as a box."""
