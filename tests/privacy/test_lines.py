"""Lines of text: strips along them, and pieces that are made longer."""

import numpy as np
import pytest

from echo_jax.privacy.lines import Box, Found, along, is_on, longer
from echo_jax.privacy.pixels import _widened

FRAME = np.zeros((200, 300), np.uint8)


def box(left, top, right, bottom, signs=3, faint=True):
  corners = ((left, top), (right, top), (right, bottom), (left, bottom))
  return Box(tuple((float(x), float(y)) for x, y in corners), signs, faint)


def turned(one, degrees):
  """The same box about the middle of the frame."""
  angle = np.deg2rad(degrees)
  turn = np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  placed = (np.array(one.corners) - (150, 100)) @ turn.T + (150, 100)
  return Box(tuple((float(x), float(y)) for x, y in placed), 3, True)


@pytest.mark.parametrize("degrees", [0, 30, 90, 200])
def test_a_strip_shows_a_line_upright_whichever_way_it_runs(degrees):
  word = turned(box(130, 95, 170, 105), degrees)
  x, y = np.meshgrid(np.arange(300), np.arange(200))
  angle = np.deg2rad(degrees)
  across = (y - 100) * np.cos(angle) - (x - 150) * np.sin(angle)
  frame = np.where(abs(across) < 4, 255, 0).astype(np.uint8)  # a long bar
  strip = along(frame, word)
  assert strip.picture.shape == (64, 512)  # 32 px high, 6 heights each side
  inner = strip.picture[:, 100:-100]
  assert (inner[28:36] > 245).all() and (inner[:14] < 10).all()
  assert is_on(word, strip)


def found(*boxes):
  text = Found((FRAME, FRAME), FRAME.shape)
  text.add(boxes)
  return text


def test_a_piece_of_a_line_is_made_as_high_as_the_line():
  tall, beside = box(180, 93, 200, 107), box(180, 112, 200, 122)
  text = found(box(130, 95, 170, 105), tall, beside)
  assert len(text.lines) == 2 and len(text.lines[0]) == 2
  assert np.allclose(text.boxes[1].corners, box(180, 95, 200, 105).corners)
  assert text.boxes[2] == beside
  assert text.covered[94, 190] == 0 and text.covered[96, 190] == 1
  much = box(210, 89, 230, 110)  # the first may have cut its letters
  text.add([much])
  assert np.allclose(text.boxes[3].corners, box(210, 93, 230, 107).corners)


def longer_than(*boxes):
  text = found(*boxes)
  return list(longer(text.boxes, text.lines))


def test_scraps_of_a_faint_line_are_taken_to_be_longer():
  scrap = box(130, 95, 150, 105)
  (more,) = longer_than(scrap)
  assert np.allclose(more.corners, box(90, 95, 190, 105).corners)
  two = box(150, 95, 180, 105, signs=6)  # a gap, or a piece of the whole
  (more,) = longer_than(scrap, two)
  assert np.allclose(more.corners, box(90, 95, 220, 105).corners)


@pytest.mark.parametrize(
  "whole",
  [
    box(128, 94, 190, 106, signs=8),  # spans all that was found
    box(150, 95, 170, 105, faint=False),  # an eye sees a part of it
  ],
)
def test_a_line_that_was_read_is_known_to_its_ends(whole):
  assert not longer_than(box(130, 95, 150, 105), whole)
  beside = box(130, 130, 190, 140, signs=8)
  assert len(longer_than(box(130, 95, 150, 105), beside)) == 1


def test_a_box_grows_along_the_line_more_than_across():
  wider = _widened(box(100, 95, 140, 105))
  assert np.allclose(wider, box(95, 93, 145, 107).corners)
  upright = _widened(box(100, 60, 110, 140))
  assert np.allclose(upright, box(98, 55, 112, 145).corners)
