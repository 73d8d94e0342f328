//! Resizing and normalising against what Pillow 13 and NumPy give for the same picture.

use amend_engine::images::{Filter, Picture, Preparation, Target};

/// A picture of a formula that the reference was made with as well.
fn picture(height: usize, width: usize) -> Picture {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            bytes.extend((0..3).map(|c| ((x * 37 + y * 91 + c * 53 + (x * y) % 17 * 30) % 256) as u8));
        }
    }
    Picture { height, width, channels: 3, bytes }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn every_byte_is_pillows() {
    let reference: [([usize; 2], [u64; 6]); 5] = [
        (
            [5, 7],
            [
                0x5621_94fc_ffd5_07d2,
                0x2a58_ed2a_94d8_eea8,
                0x6433_3043_a2df_f78a,
                0xfa25_3c4b_32dc_8c15,
                0x9130_a373_5e74_2bca,
                0x7cda_c4c0_d38c_268f,
            ],
        ),
        (
            [20, 11],
            [
                0x8528_f08d_c4ff_3ed7,
                0xbbd3_159f_c1e2_877f,
                0xc2b2_0c08_3d03_00bd,
                0x2303_cd8d_9b1a_6c78,
                0xd73e_6f8c_6d40_8fe6,
                0x89a3_d39a_8c7b_404d,
            ],
        ),
        (
            [9, 30],
            [
                0x0d3a_a0a2_af6b_c799,
                0xee88_723e_074e_0db6,
                0xea1b_34a9_b661_ec72,
                0x2e41_b435_680b_bbeb,
                0x0d3a_a0a2_af6b_c799,
                0x25bc_0a13_f517_398e,
            ],
        ),
        // On either side of where the columns come first.
        (
            [4, 11],
            [
                0xf10f_f3b9_6bf6_526d,
                0x1a2a_a3c0_f759_d956,
                0xeefa_181c_9216_f095,
                0xaeaf_05df_f92d_e8b8,
                0x6e46_112e_6386_4660,
                0xe76a_13ea_7c8a_c3ad,
            ],
        ),
        (
            [5, 11],
            [
                0xe683_eaa2_a580_3aac,
                0x8cb7_0962_7d04_882e,
                0x10cd_b5af_7ba9_cb7a,
                0x168b_77e8_28e5_cb7e,
                0x6519_0ed3_ec4d_d84b,
                0xda6b_0933_9a4b_cb23,
            ],
        ),
    ];
    for (size, hashes) in reference {
        for (code, hash) in hashes.into_iter().enumerate() {
            let filter = Filter::of_code(code as u64).unwrap();
            let resized = picture(9, 13).resized(size, filter);
            assert_eq!(fnv(&resized.bytes), hash, "{filter:?} to {size:?}");
        }
    }
}

#[test]
fn pixel_values_are_the_reference_processors() {
    let preparation = Preparation::clip([8, 8]);
    assert_eq!(preparation.resize, Some(Target::ShortestEdge(8)));
    let values = preparation.apply(&picture(17, 31)).unwrap();
    assert_eq!(values.shape(), [3, 8, 8]);
    let first = [-0.376_215_16, 0.163_926_69, 0.514_288_9, -0.624_388_4, -0.201_034_05];
    let last = [0.268_848_36, -0.058_213_16, -0.086_653_28, 0.880_311_25, 1.022_512];
    let values = values.f32();
    let wanted = first.iter().zip(values).chain(last.iter().zip(&values[values.len() - 5..]));
    assert!(wanted.into_iter().all(|(a, b): (&f32, &f32)| (a - b).abs() < 1e-6));
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    assert!((sum - 24.638_254).abs() < 1e-4, "{sum}");
}

#[test]
fn a_crop_beyond_the_picture_is_black_around_it() {
    let small = picture(3, 2).cropped([6, 5]);
    assert_eq!((small.height, small.width), (6, 5));
    let pixel = |y: usize, x: usize| &small.bytes[(y * 5 + x) * 3..][..3];
    assert_eq!(pixel(2, 2), [0, 53, 106]);
    assert_eq!(pixel(4, 3), &picture(3, 2).bytes[(2 * 2 + 1) * 3..][..3]);
    assert!(pixel(1, 2).iter().chain(pixel(2, 1)).chain(pixel(5, 4)).all(|&v| v == 0));
    assert_eq!(picture(9, 9).cropped([3, 3]).bytes[..3], picture(9, 9).bytes[(3 * 9 + 3) * 3..][..3]);
}

#[test]
fn files_say_how_pictures_are_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
        Preparation::read(folder.path(), Preparation::vit([224, 224], 3))
    };
    let old = read(r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 200, "do_center_crop": true, "resample": 3}"#).unwrap();
    assert_eq!(old.resize, Some(Target::ShortestEdge(224)));
    assert_eq!((old.crop, old.filter), (Some([200, 200]), Filter::Bicubic));
    let new =
        read(r#"{"size": {"height": 32, "width": 48}, "do_normalize": false, "do_rescale": false}"#).unwrap();
    assert_eq!(new.resize, Some(Target::Exactly([32, 48])));
    assert_eq!((new.normalize, new.rescale, new.crop), (None, None, None));
    let error = read(r#"{"size": {"longest": 3}}"#).unwrap_err().to_string();
    assert!(error.contains("preprocessor_config.json") && error.contains("size"), "{error}");
}

/// A PNG file of one row of `width` pixels.
fn png_file(
    color: png::ColorType,
    depth: png::BitDepth,
    width: u32,
    bytes: &[u8],
) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let mut encoder = png::Encoder::new(&mut file, width, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette(&[250, 0, 0, 0, 200, 0][..]);
        encoder.set_trns(&[255, 0][..]);
    }
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    file
}

#[test]
fn white_shows_through_a_transparent_picture() {
    let bytes = [200, 100, 0, 128, 10, 20, 30, 0, 40, 50, 60, 255];
    let file = png_file(png::ColorType::Rgba, png::BitDepth::Eight, 3, &bytes);
    // What Pillow's `alpha_composite` gives before white.
    let seen = [227, 177, 127, 255, 255, 255, 40, 50, 60];
    assert_eq!(Picture::open(file.path(), 3).unwrap().bytes, seen);
    // And its `convert("L")` of that.
    assert_eq!(Picture::open(file.path(), 1).unwrap().bytes, [186, 255, 48]);
}

#[test]
fn pictures_of_every_kind_become_colours() {
    use png::{BitDepth, ColorType};
    let kinds: [(ColorType, BitDepth, &[u8], [u8; 6]); 6] = [
        (ColorType::Grayscale, BitDepth::One, &[0b0100_0000], [0, 0, 0, 255, 255, 255]),
        (ColorType::Grayscale, BitDepth::Eight, &[7, 9], [7, 7, 7, 9, 9, 9]),
        // 0x0181 is nearer to 1 of 255, 0x0182 to 2.
        (ColorType::Grayscale, BitDepth::Sixteen, &[1, 0x81, 1, 0x82], [1, 1, 1, 2, 2, 2]),
        (ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 255, 7, 0], [7, 7, 7, 255, 255, 255]),
        (ColorType::Indexed, BitDepth::One, &[0b0100_0000], [250, 0, 0, 255, 255, 255]),
        (
            ColorType::Rgb,
            BitDepth::Sixteen,
            &[0xff, 0xff, 0x80, 0, 0, 0, 0, 0x80, 0, 0x81, 1, 1],
            [255, 128, 0, 0, 1, 1],
        ),
    ];
    for (color, depth, bytes, wanted) in kinds {
        let file = png_file(color, depth, 2, bytes);
        let picture = Picture::open(file.path(), 3).unwrap();
        assert_eq!((picture.height, picture.width), (1, 2));
        assert_eq!(picture.bytes, wanted, "{color:?} of {depth:?}");
    }
}

#[test]
fn a_file_that_is_no_picture_says_so() {
    let whole = std::fs::read(png_file(png::ColorType::Rgb, png::BitDepth::Eight, 1, &[1, 2, 3])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.png");
    for bytes in [&b"no picture"[..], b"", &whole[..40], b"\xff\xd8\xff\xe0 and no more"] {
        std::fs::write(&path, bytes).unwrap();
        let error = Picture::open(&path, 3).unwrap_err().to_string();
        assert!(error.contains("some.png") && error.contains("use PNG or JPEG"), "{error}");
    }
}

#[test]
fn a_picture_that_would_fill_the_memory_is_refused() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1 << 16, 1 << 16);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    let error = Picture::open(file.path(), 3).unwrap_err().to_string();
    assert!(error.contains("imits"), "{error}");
}

/// Pillow's choice where a place falls on the border between two pixels.
#[test]
fn the_nearest_of_two_equally_near_pixels_is_pillows() {
    let line = Picture { height: 1, width: 40, channels: 1, bytes: (0..40).collect() };
    assert_eq!(
        line.resized([1, 30], Filter::Nearest).bytes,
        [
            0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20, 21, 23, 24, 25, 27, 28, 29, 31, 32, 33,
            35, 36, 38, 39
        ]
    );
}
