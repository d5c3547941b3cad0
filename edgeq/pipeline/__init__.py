"""The stages in order: `build`, checkpoint to report; `synth`, the images alone; `ondevice`, a finished file."""
