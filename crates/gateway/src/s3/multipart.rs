//! Collect the parts of an upload until it is completed.
//!
//! Parts are stored as they come; which ones belong to an upload is kept in memory: after a restart of the
//! gateway an unfinished upload is answered `NoSuchUpload` and begun again, as clients do.

use super::{
    body,
    fault::fault,
    objects::{Meta, Objects, if_absent, refuse},
    principal::Stamp,
};
use hodei_sdk::upload::{Judged, Options, Sent};
use md5::{Digest as _, Md5};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateMultipartUploadInput,
        CreateMultipartUploadOutput, ETag, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Unfinished uploads of one gateway; each holds some hundred bytes a part.
const UPLOADS_MAX: usize = 1000;
/// An upload nobody touched for this long is forgotten.
const IDLE: Duration = Duration::from_secs(24 * 3600);
const PART_NUMBER_MAX: i32 = 10_000;
/// Parts but the last are at least this large, as at S3.
const PART_BYTES_MIN: u64 = 5 << 20;

struct Part {
    sent: Sent,
    md5: [u8; 16],
}

struct Upload {
    bucket: String,
    key: String,
    content_type: String,
    meta: Meta,
    stamp: Stamp,
    parts: BTreeMap<u32, Part>,
    touched: Instant,
}

/// Uploads in progress.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<String, Upload>>>);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, upload: Upload) -> S3Result<String> {
        let mut uploads = self.lock();
        uploads.retain(|_, upload| upload.touched.elapsed() < IDLE);
        if uploads.len() >= UPLOADS_MAX {
            return Err(s3_error!(SlowDown, "{UPLOADS_MAX} uploads are unfinished: complete or abort some."));
        }
        // Random keys of the process's own hasher; an id is bound to its bucket and key besides.
        let id = format!("{:016x}{:016x}", RandomState::new().hash_one(1_u8), RandomState::new().hash_one(2_u8));
        uploads.insert(id.clone(), upload);
        Ok(id)
    }

    fn with<T>(&self, id: &str, bucket: &str, key: &str, act: impl FnOnce(&mut Upload) -> T) -> S3Result<T> {
        let mut uploads = self.lock();
        match uploads.get_mut(id).filter(|upload| upload.bucket == bucket && upload.key == key) {
            Some(upload) => {
                upload.touched = Instant::now();
                Ok(act(upload))
            }
            None => Err(s3_error!(NoSuchUpload, "The upload does not exist: it was completed, aborted or forgotten.")),
        }
    }

    /// Forgets an upload; the shards of its parts are released.
    pub(super) fn abort(&self, id: &str, bucket: &str, key: &str) -> S3Result<()> {
        self.with(id, bucket, key, |_| ())?;
        self.lock().remove(id);
        Ok(())
    }
}

impl Objects {
    pub(super) async fn begin(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let stamp = request.extensions.get::<Stamp>().cloned().unwrap_or_default();
        let mut input = request.input;
        refuse!(input, tagging, object_lock_mode, object_lock_legal_hold_status, sse_customer_key, ssekms_key_id,
            website_redirect_location);
        self.must_exist(&input.bucket).await?;
        let meta = body::meta(&mut input)?;
        let upload_id = self.uploads.begin(Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            content_type: input.content_type.unwrap_or_else(|| "binary/octet-stream".into()),
            meta,
            stamp,
            parts: BTreeMap::new(),
            touched: Instant::now(),
        })?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn upload(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (declared, promised) = body::declared(&request);
        let (input, trailers) = (request.input, request.trailing_headers);
        refuse!(input, sse_customer_key);
        if !(1..=PART_NUMBER_MAX).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "Part number must be from 1 to 10000, found {}", input.part_number));
        }
        let number = input.part_number.unsigned_abs();
        self.uploads.with(&input.upload_id, &input.bucket, &input.key, |_| ())?;
        let (source, verdict) = body::checked(input.body, declared, promised, trailers);
        let finish = Some(body::finish(verdict.clone()));
        let sent = self.cloud.part(&input.bucket, number, source, Default::default(), finish, None).await;
        let (sent, judged) = sent.map_err(|error| body::blame(error, &verdict))?;
        let hashed = body::hashed(&verdict)?;
        let part = Part { sent, md5: hashed.md5 };
        self.uploads.with(&input.upload_id, &input.bucket, &input.key, |upload| upload.parts.insert(number, part))?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(judged.etag)),
            checksum_crc32: hashed.checksum.checksum_crc32,
            checksum_crc32c: hashed.checksum.checksum_crc32c,
            checksum_crc64nvme: hashed.checksum.checksum_crc64nvme,
            checksum_sha1: hashed.checksum.checksum_sha1,
            checksum_sha256: hashed.checksum.checksum_sha256,
            ..UploadPartOutput::default()
        }))
    }

    pub(super) async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let condition = if_absent(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "An upload is completed with at least one part."));
        }
        let (content_type, meta, stamp, parts) =
            self.uploads.with(&input.upload_id, &input.bucket, &input.key, |upload| {
                let mut parts: Vec<(Sent, [u8; 16])> = Vec::with_capacity(named.len());
                let mut last = 0;
                for (at, one) in named.iter().enumerate() {
                    let number = one.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
                    if number <= last {
                        return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
                    }
                    last = number;
                    let known = upload.parts.get(&number);
                    let same = |part: &&Part| match &one.e_tag {
                        Some(tag) => tag.value() == hex::encode(part.md5),
                        None => true,
                    };
                    let Some(part) = known.filter(same) else {
                        return Err(s3_error!(InvalidPart, "Part {number} was not uploaded, or its ETag differs."));
                    };
                    if at + 1 < named.len() && part.sent.part.size_bytes < PART_BYTES_MIN {
                        return Err(s3_error!(EntityTooSmall, "Part {number} is smaller than 5 MiB and not the last."));
                    }
                    parts.push((part.sent.clone(), part.md5));
                }
                Ok((upload.content_type.clone(), upload.meta.clone(), upload.stamp.clone(), parts))
            })??;
        let mut hasher = Md5::new();
        parts.iter().for_each(|(_, md5)| hasher.update(md5));
        let etag = format!("{}-{}", hex::encode(hasher.finalize()), parts.len());
        let parts = parts.into_iter().map(|(sent, _)| sent).collect();
        let (owner, acl) = (stamp.owner, stamp.acl);
        let options = Options { content_type, meta, condition, owner, acl, ..Options::default() };
        let put = self.cloud.complete(&input.bucket, &input.key, parts, Judged { etag, checksum: None }, None, options).await.map_err(fault)?;
        self.uploads.lock().remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(put.entry.etag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }
}
