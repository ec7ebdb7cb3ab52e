"""What a study may hold, in the one order that data and models share."""

MODALITIES = ("video", "doppler", "ecg", "clinical", "genetic")
DOPPLER_KINDS = ("pw", "cw", "tdi")  # a spectrum's kind is a place in it
