"""Train Visual Question Answering heads on cached features of frozen DINOv2 and Llama 3."""
