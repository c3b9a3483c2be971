"""Data parts: images in memory, text on disk; order and noise follow from the seed. Importing this imports nothing."""

DATA: dict[str, str] = {
    "digits": "lightning_modules.data.digits:Digits",
    "images": "lightning_modules.data.images:Images",
    "mnist": "lightning_modules.data.hub:MNIST",
    "fashion_mnist": "lightning_modules.data.hub:FashionMNIST",
    "cifar10": "lightning_modules.data.hub:CIFAR10",
    "gaussians": "lightning_modules.data.gaussians:Gaussians",
    "pydoc": "lightning_modules.data.text:Pydoc",
    "text": "lightning_modules.data.text:Text",
    "steps": "lightning_modules.data.steps:Steps",
}
