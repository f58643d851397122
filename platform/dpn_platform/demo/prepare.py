"""From nothing to a published demo set: draw it, ingest it, and do neither again when it is there."""

from __future__ import annotations

from collections.abc import Callable

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.job import IngestOptions, ingest
from dpn_platform.data.published.manifest import Manifest, load_manifest, published_recipe
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.demo.build import make_demo
from dpn_platform.demo.recipe import DEMO_RAW_URI, DEMO_URI, DemoRecipe
from dpn_platform.storage import exists, join_uri, require_bucket

#: side of a visual token, in pixels of the pictures, of the models made for each kind of set
PATCH_PIXELS = {"demo": 12, "detection": 16}

StageProgress = Callable[[str, int, int], None]


def ensure_demo(
    recipe: DemoRecipe,
    *,
    uri: str = DEMO_URI,
    raw_uri: str = DEMO_RAW_URI,
    force: bool = False,
    on_progress: StageProgress | None = None,
) -> Manifest:
    """The published demo set of that recipe, made if it is not there. Ray must be initialised.

    Args:
        recipe: what to draw.
        uri: where to publish.
        raw_uri: folder for the raw sets; this one goes into a sub-folder named after its recipe.
        force: replace a data set of another recipe.
        on_progress: called with (stage, done, total); stages are "drawing" and "ingesting".

    Raises:
        DpnError: another data set is published at `uri` and `force` is not given.
    """

    def report(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(stage, done, total) if on_progress else None

    require_bucket(uri)
    require_bucket(raw_uri)
    version, made_by = published_recipe(uri) or (None, None)
    if version is not None and made_by != recipe.to_json() and not force:
        raise DpnError(f"{uri} holds another data set (recipe {made_by}); choose another destination or use --force")
    if (version, made_by) == (SCHEMA_VERSION, recipe.to_json()):
        return load_manifest(uri)
    raw = join_uri(raw_uri, recipe.folder)
    if not all(exists(join_uri(raw, f"{split}.json")) for split in ("train", "test")):
        make_demo(raw, recipe, report("drawing"))
    return ingest(
        raw,
        uri,
        options=IngestOptions(visual_tokens=(recipe.image_size // PATCH_PIXELS[recipe.kind]) ** 2),
        recipe=recipe.to_json(),
        force=force or version is not None,  # the same set in an older schema is ingested again
        on_progress=report("ingesting"),
    )
