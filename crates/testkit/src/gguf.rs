//! Model files that are whole and yet of no use.

/// A whole GGUF file with one tensor and no vocabulary.
#[must_use]
pub fn gguf_without_vocabulary() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    // Version, tensors, entries of the metadata.
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, "llama");
    // Name, one dimension of eight weights, F32, at the beginning of the data.
    text(&mut file, "weights");
    file.extend(1_u32.to_le_bytes());
    file.extend(8_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 8 * 4, 0);
    file
}
