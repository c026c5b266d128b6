//! Put an object in parts.

use super::{
    body,
    checksum::{Checked, Declared, Verdict},
    customer,
    describe::{self, Describes as _},
    digest::{self, Tells as _},
    fault::fault,
    keys::now_ms,
    objects::Objects,
    principal::Caller,
    put,
    uploads::{Made, Part, Upload},
    version,
};
use hodei_sdk::{
    customer::Key,
    index::{self, Customer, Digest},
    upload::{Judged, Options, Sent},
};
use md5::{Digest as _, Md5};
use s3s::{
    S3Error, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
        UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::collections::BTreeMap;

const PART_NUMBER_MAX: i32 = 10_000;
/// Parts but the last are at least this large, as at S3.
const PART_BYTES_MIN: u64 = 5 << 20;

/// The checksum an upload's client chose, and whether that of the whole is composite.
fn chosen(digest: Option<Digest>, kind: Option<&ChecksumType>) -> S3Result<Option<(Digest, bool)>> {
    digest.map(|digest| Ok((digest, digest::composite(digest, kind)?))).transpose()
}

/// The parts named, each as it was uploaded.
fn gather(upload: &Upload, named: &[CompletedPart]) -> S3Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::with_capacity(named.len());
    let mut last = 0;
    for (at, one) in named.iter().enumerate() {
        let number = one.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        if number <= last {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        last = number;
        let is_same = |part: &&Part| {
            one.e_tag.as_ref().is_none_or(|tag| tag.value() == hex::encode(part.md5)) && claims(one, part)
        };
        let Some(part) = upload.parts.get(&number).filter(is_same) else {
            return Err(s3_error!(InvalidPart, "Part {number} was not uploaded, or its ETag or checksum differs."));
        };
        if at + 1 < named.len() && part.sent.part.size_bytes < PART_BYTES_MIN {
            return Err(s3_error!(EntityTooSmall, "Part {number} is smaller than 5 MiB and not the last."));
        }
        parts.push(part.clone());
    }
    Ok(parts)
}

/// Whether a part's checksum is the one that is claimed, where that is known.
fn claims(one: &CompletedPart, part: &Part) -> bool {
    let claimed = digest::chosen(digest::claimed!(one));
    match (claimed, &part.checksum) {
        (Some((digest, value)), Some((known, found))) if digest == *known => value == *found,
        _ => true,
    }
}

/// The checksum of the whole; where parts differ in their algorithm there is none.
fn joined(chosen: Option<(Digest, bool)>, parts: &[Part]) -> S3Result<Option<index::Checksum>> {
    let Some((digest, composite)) = chosen else { return Ok(None) };
    let values = parts.iter().map(|part| match &part.checksum {
        Some((known, value)) if *known == digest => Some((value.clone(), part.sent.part.size_bytes)),
        _ => None,
    });
    let values: Option<Vec<_>> = values.collect();
    values.map(|values| digest::join(digest, composite, &values)).transpose()
}

impl Objects {
    pub(super) async fn begin(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut input = request.input;
        hodei_sdk::object::check_key(&input.key).map_err(fault)?;
        let digest = digest::parse(input.checksum_algorithm.as_ref())?;
        let checksum = chosen(digest, input.checksum_type.as_ref())?;
        let (entry, customer) = self.describe(input.described(), &input.bucket, &request.extensions).await?;
        let mark = customer.map(|customer| self.cloud.mark(&customer));
        let server_side_encryption = put::encryption(&entry);
        let initiator = request.extensions.get::<Caller>().and_then(|caller| caller.id().map(str::to_owned));
        let upload_id = self.uploads.begin(Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            entry,
            initiator,
            mark,
            checksum,
            begun_ms: now_ms(),
            parts: BTreeMap::new(),
        })?;
        let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(mark.as_ref());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: checksum.map(|(digest, _)| digest::name(digest)),
            checksum_type: checksum.map(|(_, composite)| digest::kind(composite)),
            server_side_encryption,
            sse_customer_algorithm,
            sse_customer_key_md5,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn upload(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (declared, promised) = body::declared(&request)?;
        let (input, trailers) = (request.input, request.trailing_headers);
        let (mark, asked) = self.uploads.terms(&input.upload_id, &input.bucket, &input.key)?;
        let key = customer::key((input.sse_customer_algorithm, input.sse_customer_key, input.sse_customer_key_md5))?;
        customer::check(mark.as_ref(), key.as_ref())?;
        let sent = digest::parse(input.checksum_algorithm.as_ref())?;
        if let (Some((asked, _)), Some(sent)) = (asked, sent)
            && asked != sent
        {
            let (asked, sent) = (digest::name(asked), digest::name(sent));
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                asked.as_str(),
                sent.as_str()
            ));
        }
        let declared = Declared { wanted: asked.map(|(digest, _)| digest).or(sent), ..declared };
        let source = body::checked(input.body, declared, promised, trailers);
        let verdict = source.1.clone();
        let place = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
        let part = self.keep_part(place, input.part_number, source, key.as_ref().zip(mark.as_ref())).await?;
        let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(mark.as_ref());
        let mut output = UploadPartOutput {
            server_side_encryption: self
                .uploads
                .with(&input.upload_id, &input.bucket, &input.key, |upload| put::encryption(&upload.entry))?,
            e_tag: Some(ETag::Strong(hex::encode(part.md5))),
            sse_customer_algorithm,
            sse_customer_key_md5,
            ..UploadPartOutput::default()
        };
        output.tell(body::hashed(&verdict)?.checksum);
        Ok(S3Response::new(output))
    }

    /// Stores a part of an upload, which is named by bucket, key and id.
    pub(super) async fn keep_part(
        &self,
        (bucket, key, id): (&str, &str, &str),
        number: i32,
        (source, verdict): (Checked, Verdict),
        customer: Option<(&Key, &Customer)>,
    ) -> S3Result<Part> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(InvalidArgument, "Part number must be from 1 to 10000, found {number}"));
        }
        let number = number.unsigned_abs();
        let (_, asked) = self.uploads.terms(id, bucket, key)?;
        let finish = Some(body::finish(verdict.clone()));
        let sent = self.cloud.part(bucket, number, source, Default::default(), finish, customer).await;
        let (sent, _) = sent.map_err(|error| body::blame(error, &verdict))?;
        let hashed = body::hashed(&verdict)?;
        let mut found = hashed.checksum;
        let asked = asked.and_then(|(digest, _)| Some((digest, digest::slot(&mut found, digest).take()?)));
        let checksum = asked.or_else(|| digest::chosen(found));
        let part = Part { sent, md5: hashed.md5, checksum, modified_ms: now_ms() };
        self.uploads.with(id, bucket, key, |upload| upload.parts.insert(number, part.clone()))?;
        Ok(part)
    }

    pub(super) async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        // Whoever did not hear the answer gets it again.
        if let Some(made) = self.uploads.made(&input.upload_id, &input.bucket, &input.key) {
            return Ok(completed(input.bucket, input.key, made));
        }
        let condition = put::condition(input.if_match.as_ref(), input.if_none_match.as_ref());
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "An upload is completed with at least one part."));
        }
        let (entry, mark, asked, parts) =
            self.uploads.with(&input.upload_id, &input.bucket, &input.key, |upload| {
                Ok::<_, S3Error>((upload.entry.clone(), upload.mark, upload.checksum, gather(upload, &named)?))
            })??;
        let checksum = joined(asked, &parts)?;
        let claimed = digest::chosen(digest::claimed!(input));
        if let (Some((digest, claimed)), Some(checksum)) = (claimed, &checksum) {
            // Of a composite one the number of parts may be left out.
            let told = digest::slot(&mut digest::told(checksum, parts.len()), digest).take();
            if digest == checksum.algorithm && told.as_ref() != Some(&claimed) && claimed != checksum.value {
                return Err(s3_error!(BadDigest, "The checksum you specified did not match the calculated checksum."));
            }
        }
        let size: u64 = parts.iter().map(|part| part.sent.part.size_bytes).sum();
        if let Some(claimed) = input.mpu_object_size
            && u64::try_from(claimed).ok() != Some(size)
        {
            return Err(s3_error!(
                InvalidRequest,
                "The parts have {size} bytes, but x-amz-mp-object-size says {claimed}"
            ));
        }
        let mut hasher = Md5::new();
        parts.iter().for_each(|part| hasher.update(part.md5));
        let etag = format!("{}-{}", hex::encode(hasher.finalize()), parts.len());
        let sent: Vec<Sent> = parts.into_iter().map(|part| part.sent).collect();
        let options = Options { condition, ..describe::options(entry) };
        let judged = Judged { etag, checksum };
        let put = self.cloud.complete(&input.bucket, &input.key, sent, judged, mark, options).await.map_err(fault)?;
        let parts = put.entry.parts.len();
        let made = Made {
            encryption: put::encryption(&put.entry),
            version_id: version::made(put.entry.version),
            checksum: put.entry.checksum.map(|checksum| digest::told(&checksum, parts)).unwrap_or_default(),
            etag: put.entry.etag,
        };
        self.uploads.end(&input.upload_id, made.clone());
        Ok(completed(input.bucket, input.key, made))
    }

    pub(super) async fn abort(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.must_exist(&request.input.bucket).await?;
        self.uploads.abort(&request.input.upload_id, &request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

fn completed(bucket: String, key: String, made: Made) -> S3Response<CompleteMultipartUploadOutput> {
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{bucket}/{key}")),
        bucket: Some(bucket),
        key: Some(key),
        e_tag: Some(ETag::Strong(made.etag)),
        version_id: made.version_id,
        server_side_encryption: made.encryption,
        checksum_type: made.checksum.checksum_type.clone(),
        ..CompleteMultipartUploadOutput::default()
    };
    output.tell(made.checksum);
    S3Response::new(output)
}

#[cfg(test)]
mod tests {
    use super::{super::uploads::tests::upload, *};

    #[test]
    fn parts_that_were_not_uploaded_are_refused() {
        let named = |numbers: &[i32]| -> Vec<CompletedPart> {
            numbers
                .iter()
                .map(|number| CompletedPart { part_number: Some(*number), ..CompletedPart::default() })
                .collect()
        };
        let upload = upload("k", 0);
        let code = |numbers: &[i32]| gather(&upload, &named(numbers)).err().unwrap().code().as_str().to_owned();
        assert_eq!(code(&[1]), "InvalidPart");
        assert_eq!(code(&[0]), "InvalidPartOrder");
        assert_eq!(code(&[-1]), "InvalidPartOrder");
        assert_eq!(chosen(Some(Digest::Sha256), None).unwrap(), Some((Digest::Sha256, true)));
        assert_eq!(chosen(None, None).unwrap(), None);
    }
}
