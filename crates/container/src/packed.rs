//! Undo a layer's packing, hashing both sides of it, within limits.

use crate::spec::{Layer, Packing};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

const BUFFER_BYTES: usize = 128 << 10;

/// Reads on, hashing, and no further than its limit.
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    pub(crate) bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R, bytes_max: u64) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0, bytes_max }
    }

    fn digest(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        if self.bytes > self.bytes_max {
            return Err(invalid(format!("it is longer than the {} bytes that it may be", self.bytes_max)));
        }
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// Hands `unpack` the plain tar of `layer`, and gives how long that was once both hashes were found right.
pub(crate) fn read(
    layer: &Layer,
    path: &Path,
    diff_id: &[u8; 32],
    bytes_max: u64,
    unpack: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> io::Result<u64> {
    let mut packed = BufReader::with_capacity(BUFFER_BYTES, Hashed::new(File::open(path)?, layer.blob.bytes));
    let plain: Box<dyn Read + '_> = match layer.packing {
        Packing::Plain => Box::new(&mut packed),
        Packing::Gzip => Box::new(MultiGzDecoder::new(&mut packed)),
        Packing::Zstd => Box::new(Frames::new(&mut packed)),
    };
    let mut plain = Hashed::new(plain, bytes_max);
    unpack(&mut plain)?;
    // What is behind the tar's end counts in both hashes.
    io::copy(&mut plain, &mut io::sink())?;
    let bytes = plain.bytes;
    if plain.digest() != *diff_id {
        return Err(invalid(format!("unpacked it does not hash to {}, as the config says", hex::encode(diff_id))));
    }
    io::copy(&mut packed, &mut io::sink())?;
    let packed = packed.into_inner();
    let found = packed.bytes;
    if found != layer.blob.bytes || packed.digest() != layer.blob.sha256 {
        let expected = hex::encode(layer.blob.sha256);
        return Err(invalid(format!("its {found} bytes are not the {} that hash to {expected}", layer.blob.bytes)));
    }
    Ok(bytes)
}

/// One zstd frame after the other, those to be skipped skipped.
struct Frames<R> {
    decoder: FrameDecoder,
    source: R,
    is_within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Self { decoder: FrameDecoder::new(), source, is_within: false }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_within {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.init(&mut self.source) {
                    Ok(()) => self.is_within = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length, ..
                    })) => {
                        io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    }
                    Err(error) => return Err(invalid(error.to_string())),
                }
                continue;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                self.is_within = false;
            } else {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| invalid(error.to_string()))?;
            }
        }
    }
}

pub(crate) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
