"""torchvision's ResNet-50 teaches its ResNet-18 in a plain training loop."""

import torch
import torch.nn.functional as F
from torchvision.models import resnet18, resnet50

from mmdiffkd.capture import FeatureCapture
from mmdiffkd.diffusion import DiffKDHead


def distil(batches, weights='DEFAULT'):
    """Train a ResNet-18 on batches of normalised images (N, 3, H, W) and their labels (N,)."""
    teacher = resnet50(weights=weights).eval().requires_grad_(False)
    student = resnet18()
    # The channels of the two last maps; the autoencoder makes the teacher's as wide as ours.
    head = DiffKDHead(student_channels=512, teacher_channels=2048, ae_channels=512)
    optimizer = torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=1e-3)
    for images, labels in batches:
        with FeatureCapture(student, ['layer4']) as ours:
            loss_task = F.cross_entropy(student(images), labels)
        with FeatureCapture(teacher, ['layer4']) as theirs:
            teacher(images)
        out = head(ours['layer4'][0], theirs['layer4'][0])
        loss = loss_task + F.mse_loss(out.refined, out.target) + sum(out.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student
