"""A person's own videos, and checkout worlds, as what a training sees."""

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.simulation.activities import ACTIVITIES
from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.metrics import EVIDENCE_OVERLAP, cell_shares
from export.data.query_writer import write_queries
from export.data.records import CropFile, CropInVideo, QueryRecord, Video
from export.data.user_dataset import write_user_dataset
from export.data.video_labels import VideoTruth
from export.data.world_set import make_world_video, open_world, write_worlds
from export.evaluation.videos import encode_crops, open_caches
from export.training.data.dataset import WorldDataset, open_dataset
from export.training.data.product_photos import list_training_photos
from export.training.data.scenes import IGNORE_INDEX
from export.training.data.user_videos import FolderDataset
from export.training.data.view_augmentation import make_view
from export.training.recipe import BackboneRecipe, Data, Optimiser
from tests.support.fakes import fake_backbone
from tests.support.media import make_picture, read_number, write_video
from tests.support.products import product_folder
from tests.support.training_models import toy_config

CONFIG = toy_config(activities=2, image_size=56)
STAGE = BackboneRecipe(
    optimiser=Optimiser(steps=1, learning_rate=1e-3), worlds_a_batch=2, frames_a_world=3, inside_events=1.0
)
BOX = (0.1, 0.2, 0.5, 0.9)


def events_csv(*lines):
    return "\n".join(["video,activity,product,start,end,split", *lines]) + "\n"


def boxes_csv(*videos):
    rows = [
        f"{video},{product},{second},{','.join(map(str, BOX))}"
        for video in videos
        for product in ("left", "right")
        for second in range(4 if video == "c.mp4" else 24)
    ]
    return "\n".join(["video,product,t,x1,y1,x2,y2", *rows]) + "\n"


def made(place, name, *lines, videos=("a.mp4", "b.mp4")):
    (place / "events.csv").write_text(events_csv(*lines))
    (place / "boxes.csv").write_text(boxes_csv(*videos))
    write_user_dataset(place / name, place / "events.csv", boxes=place / "boxes.csv", doing={})
    return place / name


LINES = (
    "a.mp4,take,left,2,6,train",
    "a.mp4,give,right,10,15,train",
    "b.mp4,take,left,3,8,val",
    "b.mp4,give,right,12,16,val",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for video in ("a.mp4", "b.mp4"):
        write_video(folder / video, range(0, 24_000, 200))
    return folder


@pytest.fixture(scope="module")
def dataset(place):
    return FolderDataset(made(place, "data", *LINES), CONFIG, place / "cache")


@pytest.fixture(scope="module")
def videos(dataset, place):
    return list(dataset.encode_videos("train", fake_backbone(CONFIG), place / "cache", "digest"))


def test_a_folder_in_the_recipe_is_a_persons_own_videos(place, dataset):
    found = open_dataset(Data(folder=dataset._folder.root), CONFIG, place / "cache")
    assert isinstance(found, FolderDataset) and [one.name for one in found.classes] == ["take", "give"]


def test_without_a_folder_there_are_worlds(tmp_path):
    config = toy_config(activities=len(ACTIVITIES))
    found = open_dataset(Data(), config, tmp_path)
    assert isinstance(found, WorldDataset)
    assert [one.name for one in found.classes] == [activity.name for activity in ACTIVITIES]


@pytest.mark.parametrize("which", ["worlds", "folder"])
def test_a_network_of_other_classes_is_refused(dataset, tmp_path, which):
    data = Data(folder=dataset._folder.root) if which == "folder" else Data()
    with pytest.raises(LvmError, match="network.activities"):
        open_dataset(data, toy_config(activities=7), tmp_path)


def test_pictures_are_the_videos_own(dataset, videos):
    """Frame n of a second is number 5 n of the video: its blocks say so."""
    (cache,) = videos
    assert cache.ticks.tolist() == list(range(0, 120, 5)) and cache.clips == 2
    decoded = dataset._cache_video(dataset._select("train")[0]).open()
    seen = fake_backbone(CONFIG)({"image": decoded.frames[7:8]})["tokens"][0]
    np.testing.assert_allclose(cache.tokens[7], seen, atol=2e-3)
    assert read_number(make_picture(35)) == 35
    wanted = make_picture(35).mean(2)[:, ::16][0] > 127
    blocks = decoded.frames[7].mean((0, 2))  # (56,)
    told = [blocks[int((i + 0.5) * 5.6)] > 127 for i in range(10)]
    assert told == wanted.tolist()


def test_truth_is_the_list_of_events(videos):
    truth = videos[0].truth
    assert truth.activity.tolist() == [0, 1]
    assert list(zip(truth.start.tolist(), truth.end.tolist(), strict=True)) == [(10, 30), (50, 75)]
    np.testing.assert_allclose(truth.select_boxes(0)[1][0], BOX, atol=1e-5)


def test_every_product_of_an_event_has_photos(videos):
    cache = videos[0]
    for instance in np.unique(cache.truth.instance):
        assert cache.objects[instance].any()


def test_photos_are_cut_out_of_the_video_where_nothing_is_done(dataset):
    video = dataset._select("train")[0]
    decoded = dataset._cache_video(video).open()
    assert decoded.crops.shape == (2, 3, 56, 56, 3)
    assert np.abs(decoded.crops[0, 0] - cut(0)).mean() < 12


def test_the_videos_of_both_splits_differ(dataset, place, videos):
    engine = fake_backbone(CONFIG)
    (held_out,) = dataset.encode_videos("val", engine, place / "cache", "digest")
    assert held_out.truth.start.tolist() == [15, 60]


def test_a_video_is_seen_once_by_each_backbone(dataset, place, videos):
    def forbidden(image):
        raise AssertionError("tokens lie in the cache")

    folders = set((place / "cache").iterdir())
    again = list(dataset.encode_videos("train", forbidden, place / "cache", "digest"))
    assert np.array_equal(again[0].features, videos[0].features)
    assert set((place / "cache").iterdir()) == folders
    list(dataset.encode_videos("train", fake_backbone(CONFIG), place / "cache", "other"))
    assert len(set((place / "cache").iterdir()) - folders) == 1


def test_videos_of_one_file_name_in_two_folders_are_two(place, tmp_path):
    """As cameras leave them: one folder a day, with the same names in each."""
    for folder, length_ms in (("monday", 24_000), ("tuesday", 28_000)):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "c.mp4", range(0, length_ms, 200))
    (tmp_path / "events.csv").write_text(
        events_csv("monday/c.mp4,take,left,2,6,train", "tuesday/c.mp4,give,right,10,15,train", LINES[2])
    )
    (tmp_path / "boxes.csv").write_text(boxes_csv("monday/c.mp4", "tuesday/c.mp4", "b.mp4"))
    shutil.copy(place / "b.mp4", tmp_path)
    write_user_dataset(tmp_path / "data", tmp_path / "events.csv", boxes=tmp_path / "boxes.csv")
    data = FolderDataset(tmp_path / "data", CONFIG, tmp_path / "cache")
    one, two = data.encode_videos("train", fake_backbone(CONFIG), tmp_path / "cache", "digest")
    assert (one.name, two.name) == ("monday/c.mp4", "tuesday/c.mp4")
    assert (one.truth.start.tolist(), two.truth.start.tolist()) == ([10], [50])
    assert (len(one.tokens), len(two.tokens)) == (24, 28)


def test_pictures_for_the_backbone_are_labelled_by_boxes(dataset):
    scenes = dataset.make_scenes(STAGE).draw(np.random.default_rng(0))
    assert scenes.frames.shape == (6, 56, 56, 3)
    share = cell_shares(BOX)
    for activity, crop in zip(scenes.activity, scenes.crop, strict=True):
        assert len(set(activity[share >= EVIDENCE_OVERLAP])) == 1 and activity[24] in (0, 1)
        assert (activity[share == 0] == 2).all() and (crop[share == 0] == IGNORE_INDEX).all()
        assert (crop[share >= EVIDENCE_OVERLAP] >= 0).all()
    assert scenes.crop.max() == len(scenes.crops) - 1


def test_pictures_can_be_drawn_in_another_process(dataset, tmp_path):
    worlds = open_dataset(Data(), toy_config(activities=len(ACTIVITIES), image_size=56), tmp_path)
    for source in (dataset.make_scenes(STAGE), worlds.make_scenes(STAGE)):
        one, other = (s.draw(np.random.default_rng(4)) for s in (source, pickle.loads(pickle.dumps(source))))
        assert np.array_equal(one.frames, other.frames) and np.array_equal(one.activity, other.activity)


def test_a_folder_without_validation_is_refused(place):
    folder = made(place, "trainonly", *LINES[:2], videos=("a.mp4",))
    with pytest.raises(LvmError, match="at least one video with split val"):
        FolderDataset(folder, CONFIG, place / "cache")


def test_videos_that_are_shorter_than_a_clip_together_are_refused(place):
    write_video(place / "c.mp4", range(0, 5_000, 200))
    folder = made(place, "short", "c.mp4,take,left,1,3,train", *LINES[2:], videos=("b.mp4", "c.mp4"))
    with pytest.raises(
        LvmError, match="short train videos gives 5 frames at 1 a second, at least one clip of 10"
    ):
        FolderDataset(folder, CONFIG, place / "cache")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Thirty videos of three to five seconds, whose pictures say which one they are, and a long one."""
    place = tmp_path_factory.mktemp("short")
    names, lines = [], list(LINES[2:])
    write_video(place / "b.mp4", range(0, 24_000, 200))
    for number in range(30):
        name = f"s{number:02}.mp4"
        write_video(place / name, range(0, (3 + number % 3) * 1000, 200), first=100 + number)
        names.append(name)
        lines.append(f"{name},{'take' if number % 2 else 'give'},left,0.4,2.4,train")
    (place / "events.csv").write_text(events_csv(*lines))
    rows = [f"{name},left,{t},{','.join(map(str, BOX))}" for name in names for t in (0, 1, 2)]
    rows += [f"b.mp4,{side},{t},{','.join(map(str, BOX))}" for side in ("left", "right") for t in range(24)]
    (place / "boxes.csv").write_text("\n".join(["video,product,t,x1,y1,x2,y2", *rows]) + "\n")
    write_user_dataset(place / "data", place / "events.csv", boxes=place / "boxes.csv", doing={})
    return FolderDataset(place / "data", CONFIG, place / "cache"), place


def test_short_videos_are_joined_into_streams(short):
    dataset, place = short
    streams = list(dataset.encode_videos("train", fake_backbone(CONFIG), place / "cache", "digest"))
    assert len(streams) == dataset.count("train") == 2 and dataset.count("val") == 1
    videos = dataset._list_streams("train", 0)
    assert sorted(one.video for parts in videos.values() for one in parts) == [
        f"s{n:02}.mp4" for n in range(30)
    ]
    for cache, parts in zip(streams, videos.values(), strict=True):
        assert len(cache.truth) == len(parts) and cache.clips >= 4
        ticks = cache.ticks
        starts = np.flatnonzero(np.diff(ticks, prepend=-1000) > 50)
        assert len(starts) == len(parts), "ten seconds lie between two videos"
        for number, (video, first) in enumerate(zip(parts, starts, strict=True)):
            own = int(video.video[1:3])
            assert (
                cache.truth.start[number] == ticks[first] + 2 and cache.truth.end[number] == ticks[first] + 12
            )
            name = dataset.classes[cache.truth.activity[number]].name
            assert name == ("take" if own % 2 else "give")
            box_ticks, boxes = cache.truth.select_boxes(number)
            assert len(boxes) and box_ticks.min() >= ticks[first] and box_ticks.max() < ticks[first] + 25


def test_each_view_has_its_order_of_short_videos(short):
    dataset, _ = short
    orders = [
        [one.video for parts in dataset._list_streams("train", view).values() for one in parts]
        for view in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])


def with_boxes(place, name, *rows, lines=LINES):
    """A folder of both videos with few boxes: a line each."""
    (place / "events.csv").write_text(events_csv(*lines))
    lines = [f"{video},{product},{t},{','.join(map(str, BOX))}" for video, product, t in rows]
    (place / "boxes.csv").write_text("\n".join(["video,product,t,x1,y1,x2,y2", *lines]) + "\n")
    write_user_dataset(place / name, place / "events.csv", boxes=place / "boxes.csv", doing={})
    return place / name


def cut(number):
    """What photos show of picture `number` of a video: its box."""
    x1, y1, x2, y2 = BOX
    seen = make_picture(number)[int(y1 * 48) : round(y2 * 48), int(x1 * 160) : round(x2 * 160)]
    return mosaic(np.ascontiguousarray(seen), 56).astype(int)


def with_split(place, split):
    """The number of pictures of `left` and `right` in a.mp4, whose only boxes are in b.mp4 of `split`."""
    lines = [LINES[0], LINES[1], *(line.replace("val", split) for line in LINES[2:])]
    folder = with_boxes(place, "few", ("b.mp4", "left", 0.6), ("b.mp4", "right", 1.4), lines=lines)
    dataset = FolderDataset(folder, CONFIG, place / "cache", splits=("train",))
    return dataset._cache_video(dataset._select("train")[0]).open().crops


def test_one_box_in_a_video_of_the_same_split_shows_a_product(place):
    crops = with_split(place, "train")
    for row, number in enumerate((3, 7)):  # the pictures at 0.6 and 1.4 s
        assert np.abs(crops[row, 0] - cut(number)).mean() < 12
        assert (crops[row] == crops[row, :1]).all()


@pytest.mark.parametrize("split", ["test", "val"])
def test_no_picture_for_training_is_cut_out_of_another_split(place, split):
    with pytest.raises(
        LvmError, match=r"nothing shows left, .* in a.mp4: give it a box in a video of split train"
    ):
        with_split(place, split)


def test_an_untouched_box_elsewhere_comes_before_one_inside_of_an_event(place):
    lines = [line.replace("val", "train") for line in LINES]
    rows = (("a.mp4", "left", 3), ("b.mp4", "left", 1.4), ("a.mp4", "right", 12))
    folder = with_boxes(place, "touched", *rows, lines=lines)
    dataset = FolderDataset(folder, CONFIG, place / "cache", splits=("train",))
    crops = dataset._cache_video(dataset._select("train")[0]).open().crops
    assert np.abs(crops[0, 0] - cut(7)).mean() < 12
    assert np.abs(crops[1, 0] - cut(60)).mean() < 12  # nothing else shows it


def test_a_box_at_the_very_end_shows_the_last_picture(place):
    rows = (("a.mp4", "left", 24.0), ("a.mp4", "right", 23.8), ("b.mp4", "left", 0), ("b.mp4", "right", 0))
    dataset = FolderDataset(with_boxes(place, "end", *rows), CONFIG, place / "cache")
    crops = dataset._cache_video(dataset._select("train")[0]).open().crops
    assert all(np.abs(crops[row, 0] - cut(119)).mean() < 12 for row in (0, 1))
    asked = QueryRecord(
        qid="q", video="a.mp4", type="activity", duration="short", q_s=0, q_e=23, t_s=2, t_e=6,
        activities=(0,), instance=0, crop=CropInVideo(tick5=120, box=BOX),
    )  # fmt: skip
    data, seen = dataset._folder, []
    engine = fake_backbone(CONFIG)

    def backbone(given):
        seen.append(given["image"][0].astype(int))
        return engine(given)

    encode_crops(data, data.videos["a.mp4"], [asked], CONFIG, backbone)
    assert np.abs(seen[0] - cut(119)).mean() < 12


def test_a_video_in_which_nothing_is_done_is_watched_too(place):
    with_boxes(place, "idle", lines=LINES[:2])
    (place / "idle" / "events.jsonl").write_text("")
    dataset = FolderDataset(place / "idle", CONFIG, place / "cache", splits=("train",))
    (cache,) = dataset.encode_videos("train", fake_backbone(CONFIG), place / "cache", "digest")
    assert cache.clips == 2 and len(cache.truth) == 0 and len(cache.objects) == 0
    scenes = dataset.make_scenes(STAGE).draw(np.random.default_rng(0))
    assert scenes.crops.shape == (0, 56, 56, 3) and (scenes.activity == 2).all()


def test_a_product_of_two_videos_is_one_class(place):
    lines = [line.replace("val", "train") for line in LINES if "left" in line]
    folder = with_boxes(
        place, "both", *((v, "left", t) for v in ("a.mp4", "b.mp4") for t in (0, 4, 5)), lines=lines
    )
    scenes = FolderDataset(
        folder, toy_config(activities=1, image_size=56), place / "cache", splits=("train",)
    )
    drawn = scenes.make_scenes(STAGE.model_copy(update={"worlds_a_batch": 12})).draw(np.random.default_rng(0))
    shown = [crop.max() >= 0 for crop in drawn.crop]
    assert sum(shown) > 2 and len(drawn.crops) == 1


WORLDLY = toy_config(activities=len(ACTIVITIES), image_size=56)


def seen_of(dataset, split, place):
    return list(dataset.encode_videos(split, fake_backbone(WORLDLY), place / "cache", "digest"))


def test_knobs_spoil_what_is_learned_from_and_not_what_validation_is_judged_by(tmp_path):
    plain = Data(train_videos=1, validation_videos=1, minutes=2.0, levels=("L1",))
    noisy = plain.model_copy(update={"knobs": {"missing_boxes": 0.4, "label_noise": 0.5}})
    clean, spoilt = (WorldDataset(data, WORLDLY) for data in (plain, noisy))
    (right,), (wrong,) = (seen_of(dataset, "train", tmp_path) for dataset in (clean, spoilt))
    assert np.array_equal(right.tokens, wrong.tokens)
    assert (right.truth.activity != wrong.truth.activity).any()
    assert 0.4 < len(wrong.truth.box) / len(right.truth.box) < 0.8
    assert len(list((tmp_path / "cache").glob("*/*"))) == 2
    (right,), (judged,) = (seen_of(dataset, "val", tmp_path) for dataset in (clean, spoilt))
    for name, value in vars(right.truth).items():
        assert np.array_equal(value, getattr(judged.truth, name))
    assert len(list((tmp_path / "cache").glob("*/*"))) == 3  # it is the same video
    assert "knobs" not in clean.version() and spoilt.version()["knobs"] == noisy.knobs


def test_worlds_of_a_folder_are_learned_from_as_they_are_written_down(tmp_path):
    knobs = {"missing_boxes": 0.4, "label_noise": 0.5}
    videos = [
        make_world_video(seed, minutes=2, split=split, knobs=knobs)
        for seed, split in ((1, "train"), (2, "val"))
    ]
    write_worlds(tmp_path / "data", videos)
    dataset = FolderDataset(tmp_path / "data", WORLDLY, tmp_path / "cache")
    (cache,) = seen_of(dataset, "train", tmp_path)
    world = open_world(videos[0])
    said = VideoTruth.from_world(world, 119.9, annotated=True)
    assert cache.ticks.tolist() == list(range(0, 600, 5)) and 2 < len(said) <= len(cache.truth)
    assert cache.truth.activity[: len(said)].tolist() == said.activity.tolist()
    assert cache.truth.box_tick[: len(said.box)].tolist() == said.box_tick.tolist()
    frame = world.frame(30.0, (56, 56))[None]
    seen = fake_backbone(WORLDLY)({"image": frame})["tokens"][0]
    np.testing.assert_allclose(cache.tokens[30], seen, atol=2e-3)
    assert all(cache.objects[one].any() for one in np.unique(cache.truth.instance))
    source = dataset.make_scenes(STAGE)
    one, other = (s.draw(np.random.default_rng(4)) for s in (source, pickle.loads(pickle.dumps(source))))
    assert np.array_equal(one.frames, other.frames) and (one.activity < len(ACTIVITIES)).any()
    assert not list((tmp_path / "cache").glob("frames-*"))


def test_another_world_is_another_video(tmp_path):
    said = set()
    for changes in ({}, {"knobs": {"shake_px": 4.0}}, {"level": "L2"}):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        write_worlds(tmp_path / "data", [make_world_video(1, minutes=1, **changes)])
        dataset = FolderDataset(tmp_path / "data", WORLDLY, tmp_path / "cache", splits=("train",))
        said.add(dataset.fingerprint())
    assert len(said) == 3


def test_real_products_of_two_worlds_are_one_and_have_been_seen(tmp_path):
    shop = product_folder(tmp_path / "shop", 4, photos=3)
    videos = [make_world_video(seed, minutes=6, products=shop) for seed in (1, 2)]
    write_worlds(tmp_path / "data", videos)
    names = tuple(f"product-{number:02}" for number in range(4))
    dataset = FolderDataset(
        tmp_path / "data", WORLDLY, tmp_path / "cache", shop, splits=("train",), held_out=names[:1]
    )
    assert dataset.product_names() == set(names) and dataset.held_out == ()
    stage = STAGE.model_copy(update={"worlds_a_batch": 12})
    scenes = dataset.make_scenes(stage).draw(np.random.default_rng(0))
    assert len(scenes.crops) == 4


def test_worlds_and_files_may_share_a_split(place, tmp_path):
    write_worlds(tmp_path, [make_world_video(1, minutes=1, split="test")])
    film = Video(
        video="film", path="film.mp4", fps=5, width=160, height=48, duration_s=24, split="test"
    ).model_dump_json()
    shutil.copy(place / "a.mp4", tmp_path / "film.mp4")
    with (tmp_path / "videos.jsonl").open("a") as file:
        file.write(f"{film}\n")
    engine = fake_backbone(WORLDLY)
    found = list(
        open_caches(read_data_folder(tmp_path), "test", WORLDLY, engine, "digest", tmp_path / "cache")
    )
    assert [(one.name, len(one.tokens)) for one in found] == [("L1-1", 60), ("film", 24)]


def test_a_product_that_nothing_shows_is_named_before_anything_is_learned(place):
    folder = with_boxes(place, "none", ("a.mp4", "left", 0.6))
    with pytest.raises(LvmError, match="nothing shows right, with which something is done in a.mp4"):
        FolderDataset(folder, CONFIG, place / "cache")
    FolderDataset(folder, CONFIG, place / "cache", splits=("val",), needs_photos=False)


def test_photos_of_a_product_come_before_crops(place, tmp_path):
    folder = with_boxes(place, "photos", ("a.mp4", "left", 12.4), ("b.mp4", "left", 0.6))
    (tmp_path / "right").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "right" / f"{number}.png"), np.full((40, 40, 3), 50 * number, np.uint8))
    dataset = FolderDataset(folder, CONFIG, place / "cache", tmp_path)
    crops = dataset._cache_video(dataset._select("train")[0]).open().crops
    assert [int(np.median(one)) for one in crops[1]] == [0, 50, 100]  # the last third asks
    assert crops[0].max() > 200  # the video's own


def test_photos_of_a_product_that_is_held_out_are_not_looked_at(place, tmp_path):
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for number in range(2):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((40, 40, 3), 50, np.uint8))
    (tmp_path / "unused").mkdir()
    data = Data(folder=with_boxes(place, "held"), products=tmp_path)
    assert open_dataset(data, CONFIG, place / "cache").held_out == ()
    data = data.model_copy(update={"held_out": ("right", "unused")})
    with pytest.raises(LvmError, match=r"nothing shows right, .* take it out of data.held_out"):
        open_dataset(data, CONFIG, place / "cache")
    with_boxes(place, "held", ("a.mp4", "right", 0.6), ("b.mp4", "right", 0.6))
    dataset = open_dataset(data, CONFIG, place / "cache")
    crops = dataset._cache_video(dataset._select("train")[0]).open().crops
    assert np.median(crops[0]) == 50 and np.abs(crops[1, 0] - cut(3)).mean() < 12
    assert dataset.held_out == ("unused",)  # the other one the backbone sees in its video


def test_questions_show_no_photo_that_is_learned_from(place, tmp_path):
    for name, count in (("left", 5), ("right", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((40, 40, 3), 50, np.uint8))
    folder = with_boxes(place, "asked", ("a.mp4", "right", 0.6), ("b.mp4", "right", 0.6))
    write_queries(folder, photos=tmp_path)
    asked = {
        Path(one.crop.path) for one in read_data_folder(folder).queries if isinstance(one.crop, CropFile)
    }
    learned = {
        path for photos in list_training_photos(tmp_path, without_queries=True).values() for path in photos
    }
    assert {one.parent.name for one in asked} == {"left", "right"}
    assert sorted(one.name for one in learned) == ["0.png", "1.png", "2.png"] and not asked & learned


def test_another_box_is_decoded_anew(place):
    keys = []
    for t in (0.6, 1.2):
        folder = with_boxes(place, "moved", ("a.mp4", "left", t), ("a.mp4", "right", 0.2))
        dataset = FolderDataset(folder, CONFIG, place / "cache", splits=("train",))
        keys.append(dataset._key(dataset._select("train")[0]))
    assert keys[0] != keys[1]


def test_what_training_takes_from_a_folder_has_a_fingerprint(place):
    """A corrected event is another training, though the folder has the same name."""
    first = FolderDataset(made(place, "print", *LINES), CONFIG, place / "cache")
    assert first.count("train") == 1 and first.product_names() == {"left", "right"}
    said = first.fingerprint(), first.version()["digest"]
    again = FolderDataset(place / "print", CONFIG, place / "cache")
    assert said == (again.fingerprint(), again.version()["digest"])
    shutil.rmtree(place / "print")
    moved = ("a.mp4,take,left,2.5,6,train", *LINES[1:])
    other = FolderDataset(made(place, "print", *moved), CONFIG, place / "cache")
    assert other.fingerprint() != said[0] and other.version()["digest"] != said[1]


def test_photographs_of_worlds_have_a_fingerprint(tmp_path):
    network = toy_config(activities=len(ACTIVITIES))
    assert WorldDataset(Data(), network).fingerprint() == ""
    for name in ("milk", "tea"):
        (tmp_path / name).mkdir()
        for number in range(2):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((40, 40, 3), 50, np.uint8))
    dataset = WorldDataset(Data(products=tmp_path), network)
    before = dataset.fingerprint()
    assert before == dataset.fingerprint() != "" and dataset.product_names() == {"milk", "tea"}
    cv2.imwrite(str(tmp_path / "tea" / "2.png"), np.full((40, 40, 3), 50, np.uint8))
    assert dataset.fingerprint() != before


def test_a_test_folder_needs_nothing_but_its_split(place):
    lines = [line.replace("train", "test").replace("val", "test") for line in LINES]
    folder = made(place, "testonly", *lines)
    dataset = FolderDataset(folder, CONFIG, place / "cache", splits=("test",), needs_photos=False)
    videos = dataset.encode_videos("test", fake_backbone(CONFIG), place / "cache", "digest")
    assert [one.name for one in videos] == ["a.mp4", "b.mp4"]


def test_own_videos_have_views_too(place, dataset, videos):
    engine, (filmed,) = fake_backbone(CONFIG), videos
    view = next(view for view in range(1, 16) if make_view(filmed.name, view).mirrored)
    (other,) = dataset.encode_videos("train", engine, place / "cache", "digest", view)
    assert np.array_equal(other.ticks, filmed.ticks) and not np.array_equal(other.tokens, filmed.tokens)
    wanted = make_view(filmed.name, view).augment_truth(filmed.truth)
    assert len(wanted.box) and np.array_equal(other.truth.box, wanted.box)
    assert not np.array_equal(other.truth.box, filmed.truth.box) or not len(filmed.truth.box)
    decoded = dataset._cache_video(dataset._select("train")[0]).open()
    for row, instance in enumerate(decoded.instances):
        seen = engine({"image": np.ascontiguousarray(decoded.crops[row][:, :, ::-1])})["tokens"]
        assert np.array_equal(other.objects[instance], seen.astype(np.float16))
    (again,) = dataset.encode_videos("train", engine, place / "cache", "digest")
    assert np.array_equal(again.tokens, filmed.tokens)
