"""DINOv2 of timm teaches a MobileNetV3 of timm without labels."""

import timm
import torch
import torch.nn.functional as F

from mmdiffkd.diffusion import DiffKDHead


def distil(batches, teacher='vit_small_patch14_dinov2', pretrained=True):
    """Train a MobileNetV3 on batches of normalised images (N, 3, 224, 224)."""
    teacher = timm.create_model(teacher, pretrained, img_size=224).eval().requires_grad_(False)
    student = timm.create_model('mobilenetv3_small_100', features_only=True, out_indices=[-1])
    head = DiffKDHead(student.feature_info.channels()[0], teacher.num_features)
    optimizer = torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=1e-3)
    for images in batches:
        # The tokens of the 16x16 patches as a map; the student has 7x7 places.
        (theirs,) = teacher.forward_intermediates(images, 1, norm=True, intermediates_only=True)
        ours = F.interpolate(student(images)[0], theirs.shape[-2:], mode='bilinear')
        out = head(ours, theirs)
        loss = F.mse_loss(out.refined, out.target) + sum(out.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student
