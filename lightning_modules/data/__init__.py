"""Data parts: images in memory; order and noise are functions of the seed. Importing this imports nothing else."""

DATA: dict[str, str] = {
    "digits": "lightning_modules.data.digits:Digits",
    "images": "lightning_modules.data.images:Images",
    "mnist": "lightning_modules.data.hub:MNIST",
    "fashion_mnist": "lightning_modules.data.hub:FashionMNIST",
    "cifar10": "lightning_modules.data.hub:CIFAR10",
    "steps": "lightning_modules.data.steps:Steps",
}
