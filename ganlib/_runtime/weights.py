"""Networks that know how they were built, with access to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from safetensors.torch import load_file, save_model
from torch import Tensor, nn

WEIGHTS = "model.safetensors"  # the file's name on the hub


class Network(nn.Sequential):
    """A sequence of layers for [B, *takes], and the ``config`` it is built from."""

    builders: ClassVar[dict[str, Callable[..., Network]]] = {}  # kind, as named in a config -> function that builds it

    def __init__(self, layers: Iterable[nn.Module], takes: list[int], config: dict):
        super().__init__(*layers)
        self.takes, self.config = takes, config

    def check(self, x: Tensor) -> None:
        """Raise a ValueError if ``x`` has the wrong shape for the network."""
        if list(x.shape[1:]) != self.takes:
            takes = f"This {type(self).__name__.lower()} takes [B, {str(self.takes)[1:]}, not {list(x.shape)}"
            raise ValueError(f"{takes}; give it z of its own z_dim, or images of its own image_size and channels.")

    @classmethod
    def build(cls, config: Mapping) -> Network:
        """A new network from the ``config`` of another; ValueError if it is invalid."""
        name, kind = cls.__name__.lower(), str(config.get("kind"))
        if kind not in cls.builders:
            raise ValueError(f"There is no {name} of kind '{kind}'; use one of: {', '.join(cls.builders)}.")
        arguments = {name: value for name, value in config.items() if name != "kind"}
        try:
            return cls.builders[kind](**arguments)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"No {name} of kind '{kind}' can be built from {arguments}: {error}") from error

    def save_pretrained(self, folder, **options):
        """Write ``config.json``, ``model.safetensors`` and a model card into ``folder``."""
        return _hub(type(self), self).save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Upload the same to ``repo_id``, such as "user/name"; return the commit's URL."""
        return _hub(type(self), self).push_to_hub(repo_id, **options)

    @classmethod
    def from_pretrained(cls, where, **options) -> Network:
        """The network saved in a folder or uploaded as "user/name", in eval mode."""
        return _hub(cls).from_pretrained(where, **options)


def _hub(kind: type[Network], network: Network | None = None):
    """Hugging Face's mixin for one network, or for all of a class."""
    # Imported only here, not as a base class: in a notebook it takes 0.13 s, more than all of ganlib.train.
    from huggingface_hub import PyTorchModelHubMixin, hf_hub_download

    class Hub(PyTorchModelHubMixin, library_name="ganlib", tags=["gan"]):
        _hub_mixin_config = network and network.config

        def __init__(self):
            pass

        def _save_pretrained(self, save_directory):
            save_model(network, str(save_directory / WEIGHTS))

        @classmethod
        def _from_pretrained(cls, *, model_id, config=None, **download):
            # The mixin's method would also read a pickle, and accept missing weights.
            built = kind.build(config or {})
            folder = Path(model_id)
            path = folder / WEIGHTS if folder.is_dir() else hf_hub_download(model_id, WEIGHTS, **download)
            load_strict(built, load_file(path), path)
            return built.eval()

    return Hub()


def load_strict(network: nn.Module, weights: Mapping[str, Tensor], where: object) -> None:
    """Load weights that fit, or change nothing and name the first that does not."""
    own = network.state_dict()
    here, there = ({name: list(tensor.shape) for name, tensor in some.items()} for some in (own, weights))
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise ValueError(
                f"The weights in '{where}' do not fit: '{name}' has shape {there.get(name, 'nothing')} there and "
                f"{here.get(name, 'nothing')} in the network; build it with the architecture, widths, z_dim and image "
                "size that they were made with."
            )
    network.load_state_dict(weights)
