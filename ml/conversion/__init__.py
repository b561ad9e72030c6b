"""Which open lead will become business."""
