"""A ViT of the Hugging Face hub teaches a ResNet-18: DIST on the logits."""

import torch
from transformers import AutoModelForImageClassification

from mmdiffkd.losses import DISTLoss


def distil(batches, teacher='google/vit-base-patch16-224', student='microsoft/resnet-18'):
    """Train on batches of normalised images (N, 3, 224, 224) and their labels (N,)."""
    load = AutoModelForImageClassification.from_pretrained
    # Models from the hub come in evaluation mode, which is right for the teacher alone.
    teacher, student = load(teacher).requires_grad_(False), load(student).train()
    distance = DISTLoss(loss_weight=2.0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    for images, labels in batches:
        output = student(images, labels=labels)
        loss = output.loss + distance(output.logits, teacher(images).logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student
