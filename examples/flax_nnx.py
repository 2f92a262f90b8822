"""A Flax NNX module on bags of words: which page of Python's own manual is a sentence from?

The module is the dense part; the words are in the embedding beside it, and both are differentiated at once.
"""

import re
from itertools import accumulate
from pydoc_data.topics import topics

import numpy as np
import optax
from flax import nnx

import hotrow

PAGES = ["debugger", "formatstrings", "import", "string-methods", "compound"]
DIM, BATCH, EPOCHS = 16, 32, 12
rng = np.random.default_rng(0)
page_of = {}
for page, name in enumerate(PAGES):
    for part in re.split(r"[.:;]\s|\n\n", topics[name].lower()):
        page_of.setdefault(tuple(re.findall("[a-z_]{2,}", part)), page)
examples = [(sentence, page) for sentence, page in page_of.items() if len(sentence) > 3]
train, test = np.split(rng.permutation(np.array(examples, object)), [-len(examples) // 5])


def batch_of(sentences, **how):
    """One bag of words for each sentence."""
    words = [word for sentence in sentences for word in sentence]
    return emb.find(words, offsets=[0, *accumulate(map(len, sentences))], **how)


@nnx.jit
def step(net, optimizer, vectors, pages):
    """A step of the module; the loss, and the gradients of the vectors, for the embedding."""

    def loss_of(net, vectors):
        return optax.softmax_cross_entropy_with_integer_labels(net(vectors), pages).mean()

    loss, (by_net, by_vectors) = nnx.value_and_grad(loss_of, argnums=(0, 1))(net, vectors)
    optimizer.update(net, by_net)
    return loss, by_vectors


emb = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.Adam(0.01))
rngs = nnx.Rngs(0)
net = nnx.Sequential(nnx.Linear(DIM, 32, rngs=rngs), nnx.relu, nnx.Linear(32, len(PAGES), rngs=rngs))
optimizer = nnx.Optimizer(net, optax.adam(0.01), wrt=nnx.Param)
for chosen in np.split(train, range(BATCH, len(train), BATCH))[:-1] * EPOCHS:
    batch = batch_of(chosen[:, 0])
    loss, gradients = step(net, optimizer, emb(batch), chosen[:, 1].astype(int))
    emb.update(batch, gradients)

guessed, pages = net(emb(batch_of(test[:, 0], grow=False))).argmax(axis=1), test[:, 1].astype(int)
print(f"hotrow.jax    accuracy {np.mean(guessed == pages):.3f}")
print(f"commonest page         {np.mean(pages == np.bincount(pages).argmax()):.3f}")
