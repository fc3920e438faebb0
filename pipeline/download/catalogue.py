"""The data sets that `download` fetches: addresses, sizes and digests that are published.

Only what anybody may fetch without a form or a login stands here. None of the addresses can be
tried by the tests; docs/download.md says where each was found.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes:
        url: Its address.
        bytes: Its size, None if none is published.
        sha256: Its digest, None if none is published.
        into: The folder that it goes into, or that its content is unpacked into; "" for the top.
    """

    url: str
    bytes: int | None = None
    sha256: str | None = None
    into: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def packed(self) -> bool:
        """Whether it is unpacked, and removed then."""
        return self.name.endswith((".zip", ".tar.gz"))


@dataclass(frozen=True)
class DataSet:
    """What one name fetches.

    Attributes:
        licence: Of what is fetched, as its owners state it; "unverified" where they could not be
            read.
        page: Where its owners describe it.
        source: What `--dataset` reads it with; "" for pictures alone.
        pictures: Other names that have its pictures.
        advice: What else its pictures need.
    """

    files: tuple[RemoteFile, ...]
    licence: str
    page: str
    source: str = ""
    pictures: tuple[str, ...] = ()
    advice: str = ""


def _of(base: str, *names: str, into: str = "") -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{base}/{name}", into=into) for name in names)


_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_COCO = "http://images.cocodataset.org/zips"
_COCO_TERMS = "each picture has its owner's licence on Flickr; see https://cocodataset.org"
_TEXTVQA = "https://dl.fbaipublicfiles.com/textvqa"
_GQA = "https://downloads.cs.stanford.edu/nlp/data/gqa"
_VIZWIZ = "https://vizwiz.cs.colorado.edu/VizWiz_final"
_SLAKE = "https://huggingface.co/datasets/BoKelvin/SLAKE/resolve/main"
_SCIENCEQA = "https://raw.githubusercontent.com/lupantech/ScienceQA/main/data/scienceqa"
_SCIENCEQA_PICTURES = "https://scienceqa.s3.us-west-1.amazonaws.com/images"
_NLVR2 = "https://raw.githubusercontent.com/lil-lab/nlvr/master/nlvr2/data"

DATA_SETS = {
    "vqav2": DataSet(
        (
            RemoteFile(
                f"{_VQA}/v2_Questions_Train_mscoco.zip",
                sha256="05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e",
            ),
            RemoteFile(
                f"{_VQA}/v2_Questions_Val_mscoco.zip",
                sha256="e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a",
            ),
            RemoteFile(
                f"{_VQA}/v2_Questions_Test_mscoco.zip",
                sha256="982e2e687a86514b78ea83af356d151976c5e3fb4168a29ca543610574082ad7",
            ),
            RemoteFile(
                f"{_VQA}/v2_Annotations_Train_mscoco.zip",
                sha256="fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853",
            ),
            RemoteFile(
                f"{_VQA}/v2_Annotations_Val_mscoco.zip",
                sha256="0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e",
            ),
        ),
        "CC BY 4.0 for questions and answers",
        "https://visualqa.org/download.html",
        "vqav2",
        ("coco2014", "coco2015"),
    ),
    "coco2014": DataSet(
        (
            RemoteFile(
                f"{_COCO}/train2014.zip",
                13_510_573_713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            ),
            RemoteFile(
                f"{_COCO}/val2014.zip",
                6_645_013_297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            ),
        ),
        _COCO_TERMS,
        "https://cocodataset.org",
    ),
    "coco2015": DataSet(
        (
            RemoteFile(
                f"{_COCO}/test2015.zip",
                13_270_587_935,
                "1a2aa896b81140a850a78fa8bff07d455698d2abf364ff05721763458a8101ca",
            ),
        ),
        _COCO_TERMS,
        "https://cocodataset.org",
    ),
    "coco2017": DataSet(
        (
            RemoteFile(
                f"{_COCO}/train2017.zip",
                19_336_861_798,
                "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            ),
            RemoteFile(
                f"{_COCO}/val2017.zip",
                815_585_330,
                "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            ),
            RemoteFile(
                f"{_COCO}/test2017.zip",
                6_646_970_404,
                "c7908c3c9f94ba2f3340ebbeec58c25db6be8774f18d68c2f15d0e369d95baba",
            ),
        ),
        _COCO_TERMS,
        "https://cocodataset.org",
    ),
    "visual-genome": DataSet(
        _of("https://cs.stanford.edu/people/rak248/VG_100K_2", "images.zip", "images2.zip"),
        "CC BY 4.0 (unverified)",
        "https://homes.cs.washington.edu/~ranjay/visualgenome",
    ),
    "okvqa": DataSet(
        _of(
            "https://okvqa.allenai.org/static/data",
            "OpenEnded_mscoco_train2014_questions.json.zip",
            "OpenEnded_mscoco_val2014_questions.json.zip",
            "mscoco_train2014_annotations.json.zip",
            "mscoco_val2014_annotations.json.zip",
        ),
        "unverified",
        "https://okvqa.allenai.org",
        "okvqa",
        ("coco2014",),
    ),
    "aokvqa": DataSet(
        _of("https://prior-datasets.s3.us-east-2.amazonaws.com/aokvqa", "aokvqa_v1p0.tar.gz"),
        "unverified",
        "https://github.com/allenai/aokvqa",
        "aokvqa",
        ("coco2017",),
    ),
    "textvqa": DataSet(
        (
            *_of(
                f"{_TEXTVQA}/data",
                *(f"TextVQA_0.5.1_{split}.json" for split in ("train", "val", "test")),
            ),
            *_of(f"{_TEXTVQA}/images", "train_val_images.zip", "test_images.zip"),
        ),
        "CC BY 4.0; the pictures are of Open Images, CC BY of their owners",
        "https://textvqa.org",
        "textvqa",
    ),
    "gqa": DataSet(
        _of(_GQA, "questions1.2.zip", "images.zip"),
        "unverified; the pictures are of Visual Genome",
        "https://cs.stanford.edu/people/dorarad/gqa",
        "gqa",
    ),
    "vizwiz": DataSet(
        (
            *_of(f"{_VIZWIZ}/vqa_data", "Annotations.zip"),
            *_of(f"{_VIZWIZ}/images", "train.zip", "val.zip", "test.zip"),
        ),
        "CC BY 4.0 (unverified)",
        "https://vizwiz.org/tasks-and-datasets/vqa",
        "vizwiz",
    ),
    "clevr": DataSet(
        (
            RemoteFile(
                "https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip",
                19_021_600_724,
                "5cd61cf1096ed20944df93c9adb31e74d189b8459a94f54ba00090e5c59936d1",
            ),
        ),
        "CC BY 4.0",
        "https://cs.stanford.edu/people/jcjohns/clevr",
        "clevr",
    ),
    "tallyqa": DataSet(
        _of("https://github.com/manoja328/TallyQA_dataset/raw/master", "tallyqa.zip"),
        "Apache 2.0",
        "https://github.com/manoja328/TallyQA_dataset",
        "tallyqa",
        ("visual-genome", "coco2014"),
    ),
    "visual7w": DataSet(
        (
            *_of("https://ai.stanford.edu/~yukez/papers/resources", "dataset_v7w_telling.zip"),
            *_of("http://vision.stanford.edu/yukezhu", "visual7w_images.zip"),
        ),
        "unverified; the pictures are of COCO and Visual Genome",
        "https://github.com/yukezhu/visual7w-toolkit",
        "visual7w",
    ),
    "slake": DataSet(
        _of(_SLAKE, "train.json", "validation.json", "test.json", "imgs.zip"),
        "CC BY 4.0",
        "https://huggingface.co/datasets/BoKelvin/SLAKE",
        "slake",
    ),
    "scienceqa": DataSet(
        (
            *_of(_SCIENCEQA, "problems.json", "pid_splits.json"),
            *_of(_SCIENCEQA_PICTURES, "train.zip", "val.zip", "test.zip", into="images"),
        ),
        "CC BY-NC-SA 4.0",
        "https://github.com/lupantech/ScienceQA",
        "scienceqa",
    ),
    "nlvr2": DataSet(
        _of(_NLVR2, "train.json", "dev.json", "test1.json", "test2.json"),
        "unverified",
        "https://github.com/lil-lab/nlvr",
        "nlvr2",
        advice="Its owners give the pictures to researchers who fill in the form on that page.",
    ),
}

NOT_FETCHED = {
    "daquar": "its pictures are of NYU Depth v2, which has its own terms",
    "pathvqa": "its pictures are of textbooks and belong to their publishers",
    "vqa-rad": "its owners' page has no address that was found; a mirror on the Hub is read with "
    "--dataset hub:flaviagiammarino/vqa-rad",
}
"""Data sets that are known and not fetched, with the reason."""
