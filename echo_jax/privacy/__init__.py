"""De-identified copies of ultrasound DICOM: headers, pixels, and the proof.

`deidentify.deidentify` makes one copy or says why not; `folder.run_folder` does
a whole archive.  Not a guarantee: README.md here says what to look at.
"""
