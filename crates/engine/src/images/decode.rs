//! The pixels of PNG and JPEG files.

use std::io::Cursor;

use png::{BitDepth, ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// A picture of 512 MiB is no picture but a file that was made to fill the memory.
const LARGEST: usize = 512 << 20;

/// A decoded file.
pub(super) struct Pixels {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Red, green and blue of every pixel, row by row.
    pub(super) rgb: Vec<[u8; 3]>,
}

/// Reads a file by what it begins with. Where a picture is transparent, white shows through.
pub(super) fn decode(file: &[u8]) -> Result<Pixels, String> {
    match file {
        [0x89, b'P', b'N', b'G', ..] => png(file).map_err(|e| e.to_string()),
        [0xff, 0xd8, ..] => jpeg(file),
        _ => Err("it begins as neither of the two formats that are known".into()),
    }
}

fn png(file: &[u8]) -> Result<Pixels, png::DecodingError> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes: LARGEST });
    // Palettes become colours, and all values have 8 or 16 bits.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let pixels = u64::from(reader.info().width) * u64::from(reader.info().height);
    if pixels * 3 > LARGEST as u64 {
        return Err(png::DecodingError::LimitsExceeded);
    }
    let size = reader.output_buffer_size().filter(|&size| size <= 3 * LARGEST);
    let mut bytes = vec![0; size.ok_or(png::DecodingError::LimitsExceeded)?];
    let frame = reader.next_frame(&mut bytes)?;
    bytes.truncate(frame.buffer_size());
    if frame.bit_depth == BitDepth::Sixteen {
        bytes = bytes.as_chunks().0.iter().map(|&value| high(u16::from_be_bytes(value))).collect();
    }
    let rgb = match frame.color_type {
        ColorType::Grayscale => bytes.iter().map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => {
            bytes.as_chunks().0.iter().map(|&[grey, alpha]| on_white([grey; 3], alpha)).collect()
        }
        ColorType::Rgba => {
            bytes.as_chunks().0.iter().map(|&[r, g, b, alpha]| on_white([r, g, b], alpha)).collect()
        }
        // A palette has been expanded to this.
        ColorType::Rgb | ColorType::Indexed => bytes.as_chunks().0.to_vec(),
    };
    Ok(Pixels { height: frame.height as usize, width: frame.width as usize, rgb })
}

fn jpeg(file: &[u8]) -> Result<Pixels, String> {
    // Damaged data is read as far as it goes, as everybody's viewer does.
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(file), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it says no size")?;
    if width * height * 3 > LARGEST {
        return Err(format!("{width} × {height} pixels are too many"));
    }
    let bytes = decoder.decode().map_err(|e| e.to_string())?;
    Ok(Pixels { height, width, rgb: bytes.as_chunks().0.to_vec() })
}

/// 16 bits as the nearest of 8.
fn high(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// A pixel as it looks before white, rounded.
fn on_white(rgb: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    rgb.map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}
