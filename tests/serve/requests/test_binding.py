"""A binding says what values come from: the same for the same weights and conventions, another for any other."""

from dataclasses import replace

from plumbline_serve.assembly import assembled
from plumbline_serve.requests.binding import Bindings, weights_of
from plumbline_serve.settings import ImageSettings, load_settings


async def test_the_embedded_scorers_are_bound_to_their_weights_and_conventions() -> None:
    settings = load_settings(overrides={"backend": "fake"})
    async with assembled(settings) as assembly:
        pipeline = assembly.service._core.pipeline
        infos = await pipeline.infos()
        found = {}
        for name, scorer in assembly.scorers.items():
            bound = await Bindings.of(settings.images).of_scorer(pipeline, scorer)
            assert bound.scorer == name
            assert len(bound.weights) == 64
            assert dict(scorer.conventions).items() <= bound.conventions.items()
            assert bound.conventions["images.exif_orientation"] == "apply"
            found[name] = bound
            other = await Bindings.of(ImageSettings(alpha="drop")).of_scorer(pipeline, scorer)
            assert other.conventions != bound.conventions
        assert found["clipscore"].weights != found["vqascore"].weights
        clip = assembly.scorers["clipscore"]
        assert clip.image is not None
        encoder = await Bindings.of(settings.images).of_encoder(pipeline, clip.image)
        assert (encoder.scorer, encoder.weights) == (clip.image.key, infos[clip.image.key].sha256)
        changed = {key: replace(info, sha256="00") for key, info in infos.items()}
        assert weights_of(changed, (clip.image, clip.text)) == "00"
        changed[clip.image.key] = infos[clip.image.key]
        assert weights_of(changed, (clip.image, clip.text)) not in {"00", infos[clip.image.key].sha256}
