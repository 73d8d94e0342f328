//! A picture in memory, and its size changed.

use std::path::Path;

use super::decode::{Pixels, decode};
use super::resample::{Filter, resample};
use crate::{Error, Result};

/// Pixels of 8 bits per channel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Values of a pixel: 3 for red, green and blue, 1 for grey.
    pub channels: usize,
    /// The values: height · width · channels of them.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Opens a PNG or JPEG file with `channels` (1 or 3) values per pixel. Where a picture is transparent,
    /// white shows through.
    pub fn open(path: &Path, channels: usize) -> Result<Self> {
        let file = std::fs::read(path).map_err(|e| Error::io(path, "cannot read", e))?;
        let Pixels { height, width, rgb } = decode(&file).map_err(|e| {
            Error::format(path, format!("not a picture that can be read: {e}; use PNG or JPEG"))
        })?;
        let bytes = match channels {
            3 => rgb.into_flattened(),
            1 => rgb.iter().map(grey).collect(),
            n => return Err(Error::invalid(format!("pictures have 1 or 3 channels; the model wants {n}"))),
        };
        Ok(Picture { height, width, channels, bytes })
    }

    /// The whole picture at another size, [height, width].
    pub fn resized(&self, [height, width]: [usize; 2], filter: Filter) -> Self {
        // Values are rounded between the two directions, so their order shows in the last bit. Pillow (13)
        // starts with the columns where they lose more than twice as many pixels as the rows do.
        let lost = |old: usize, new: usize| old as isize - new as isize;
        let [down, across] = [lost(self.height, height), lost(self.width, width)];
        match down > 0 && down > 2 * across {
            true => self.with_height(height, filter).with_width(width, filter),
            false => self.with_width(width, filter).with_height(height, filter),
        }
    }

    fn with_width(&self, width: usize, filter: Filter) -> Self {
        let bytes = match width == self.width {
            true => self.bytes.clone(),
            false => resample(&self.bytes, [self.height, self.width, self.channels], width, filter),
        };
        Picture { width, bytes, ..*self }
    }

    fn with_height(&self, height: usize, filter: Filter) -> Self {
        let bytes = match height == self.height {
            true => self.bytes.clone(),
            false => resample(&self.bytes, [1, self.height, self.width * self.channels], height, filter),
        };
        Picture { height, bytes, ..*self }
    }

    /// The middle of the picture, [height, width]; black where it is smaller than that.
    pub fn cropped(&self, [height, width]: [usize; 2]) -> Self {
        let mut bytes = vec![0; height * width * self.channels];
        // Where the first row of the cut lies in the picture; negative where black comes first. Cuts
        // round down, borders too: (a − b) / 2 rounded towards −∞ is both.
        let offset = |old: usize, new: usize| (old as isize - new as isize).div_euclid(2);
        let (top, left) = (offset(self.height, height), offset(self.width, width));
        for y in 0..height {
            for x in 0..width {
                let place = |at: usize, offset: isize, limit: usize| {
                    usize::try_from(at as isize + offset).ok().filter(|&at| at < limit)
                };
                if let (Some(row), Some(column)) = (place(y, top, self.height), place(x, left, self.width)) {
                    let (to, from) = (y * width + x, row * self.width + column);
                    let n = self.channels;
                    bytes[to * n..(to + 1) * n].copy_from_slice(&self.bytes[from * n..(from + 1) * n]);
                }
            }
        }
        Picture { height, width, channels: self.channels, bytes }
    }
}

/// Brightness by ITU-R 601-2, in 16 bits of fraction; a grey pixel's is its own.
fn grey(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}
