"""What stands below the help of `bsq encode` and `bsq decode`."""

ENCODE_EPILOG = """
**Examples**

`bsq encode photo.jpg` · photo.bsq beside it

`bsq encode photo.jpg -o small.bsq --bits 9 --verify` · a quarter of the default model's 36 bits, read back and compared

`bsq encode photo.jpg --bits 18 --search 3` · a somewhat better picture for some seconds more

`bsq encode photo.jpg --bits 18 --search 0` · the encoder's own codes, in half the time; default: corrected once

`bsq encode photo.jpg --bits 18 --search 40` · about as many bytes, a much better picture; takes its time

`bsq encode photo.jpg --bits 18 --allocate` · as many bytes, spent where they pay

`bsq encode photo.jpg --target-bpp 0.15` · as many bits as make a file of at most 0.15 bits per pixel

`bsq encode *.png holiday/ -o small/` · many; folders are searched at any depth and keep their shape

`cat photo.jpg | bsq encode - > photo.bsq` · in a pipe

`bsq encode clip.mp4` · clip.bsq, frame by frame; animated GIFs too. Sound is left out

`bsq encode clip.mp4 --frame-rate 10 --group 50` · 10 frames a second, any 5 seconds of which decode alone

Two inputs that would share a name (a.jpg, a.png) keep their suffix: a.jpg.bsq, a.png.bsq.
"""

DECODE_EPILOG = """
**Examples**

`bsq decode photo.bsq` · photo.png beside it

`bsq decode photo.bsq -o photo.webp` · formats by suffix: png, webp, tif, bmp, ppm (exact), jpg, avif (lossy)

`bsq decode small/ -o pictures/ --format jpg` · many

`bsq decode - < photo.bsq > photo.png` · in a pipe

`bsq decode clip.bsq` · clip.mp4; also -o clip.webm, -o clip.gif, -o frames/ for a folder of PNG files

`bsq decode clip.bsq --start 10s --end 1:02.5 -o part.mp4` · a part, without what is before it; 240f is frame 240

`bsq decode --allow-truncated part.bsq` · what there is of a file that was cut short or damaged; says what was missing
"""
