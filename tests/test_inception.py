"""Inception's weights: never executed, and a sentence when they cannot be had."""

import pickle
from pathlib import Path

import pytest
import torch

from ganlib.metrics import inception
from ganlib.metrics import scores as metrics


class Exploit:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_runs_code_is_refused_unopened(tmp_path):
    target, weights = tmp_path / "owned", tmp_path / "inception.pth"
    weights.write_bytes(pickle.dumps(Exploit(target)))
    with pytest.raises(ValueError, match="cannot be read as weights alone: .* a pickle that would run code"):
        inception.inception_net(weights)
    assert not target.exists()
    pickle.loads(weights.read_bytes())  # it would have worked
    assert target.exists()


def test_missing_damaged_and_foreign_weights_get_a_sentence(tmp_path):
    path = tmp_path / "inception.pth"
    with pytest.raises(FileNotFoundError, match="no Inception weights at .* Download https://.* and put it into"):
        inception.inception_net(path)
    path.write_text("<!DOCTYPE html><html>quota exceeded</html>")
    with pytest.raises(ValueError, match="is a web page, not weights"):
        inception.inception_net(path)
    path.write_bytes(b"PK not weights")
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        inception.inception_net(path)
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds the weights of another network"):
        inception.inception_net(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no weights"):
        inception.inception_net(path)


@pytest.mark.slow
def test_the_whole_path_with_random_weights(tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as module

    path, network = tmp_path / "inception.pth", module.FeatureExtractorInceptionV3
    with monkeypatch.context() as patched:
        patched.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
        patched.setattr(network, "load_state_dict", lambda self, state: None)
        torch.save(network("inception", ["2048"]).state_dict(), path)
    net = inception.inception_net(path)
    pixels = torch.randint(0, 256, (12, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    features, logits = net(pixels[:2])
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    report = metrics.score(pixels[:6], pixels[6:], net, metrics=("kid",))
    assert set(report.numbers()) == {"kid_inception_6"}
    assert report["kid"].protocol["resizer"] == "tf1-bilinear-299"
    fid = metrics.Score("fd", 1.0, 0.5, None, report["kid"].protocol)
    assert fid.name == "fid_inception_6" and str(fid).startswith("FID(inception) 1 ")
    with pytest.raises(ValueError, match=r"colour images .*these are \[6, 1, 32, 32\]"):
        net(pixels[:6, :1])
