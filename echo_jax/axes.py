"""The axis glossary and the array types that carry it.

One letter means one axis everywhere in the package:

  b  clip in a batch          v  view (clip) in a study
  T H W  frame, row, column   t h w  token grid of a clip
  n  token                    k  kept token     q  hidden token
  p  value in a tubelet       d  width          a  attention head
  c  colour channel           o  output         e  embedding
  m  modality                 l  lead           s  sample
  u  token that others read
"""

from jax import Array
from jaxtyping import Float

Video = Float[Array, "b T H W c"]
Tokens = Float[Array, "b n d"]
Tubelets = Float[Array, "b n p"]
FrameTimes = Float[Array, "b T"]
