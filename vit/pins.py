# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of published files, where it is known. For Google's .npz weights no source was found, so it is unknown.

Sources: tensorflow/datasets, tensorflow_datasets/url_checksums/{cifar10,cifar100,fashion_mnist,imagenet2012}.txt at
333639b for the binary CIFARs, Fashion-MNIST and ImageNet; keras, datasets/{cifar10,cifar100}.py for the Python CIFARs.
"""

from __future__ import annotations

PINS = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-100-python.tar.gz": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    "ILSVRC2012_img_train.tar": "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    "ILSVRC2012_img_val.tar": "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
}
FASHION_PINS = {  # MNIST's own files have the same names
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
}


def pin_of_url(url: str) -> str | None:
    """Return the SHA-256 of the published file that an address names, from whatever server; None if it is not known."""
    name = url.partition("?")[0].rpartition("/")[2]
    return PINS.get(name) or (FASHION_PINS.get(name) if "fashion" in url.lower() else None)
