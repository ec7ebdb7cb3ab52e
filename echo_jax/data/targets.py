from echo_jax.targets import *  # moved; removed at integration
