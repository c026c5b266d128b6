//! Answer S3's operations from buckets of the cloud.

use super::{
    access::Kept,
    body::{self, Exclusive},
    checksum::Hashed,
    fault::fault,
    keys::Keyring,
    multipart::Uploads,
    principal::Stamp,
};
use hodei_sdk::{Fault, Local, condition::Condition, plan::Wish, upload::Options};
use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, DeleteBucketInput, DeleteBucketOutput, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput, DeletedObject, ETag, ETagCondition, Error, GetBucketAclInput, GetBucketAclOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketLoggingInput, GetBucketLoggingOutput, GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput, GetBucketTaggingInput, GetBucketTaggingOutput, GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectAclInput, GetObjectAclOutput, GetObjectInput, GetObjectOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutBucketAclInput, PutBucketAclOutput, PutBucketCorsInput, PutBucketCorsOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput, PutBucketLoggingInput, PutBucketLoggingOutput, PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput, PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput, PutBucketPolicyInput, PutBucketPolicyOutput, PutBucketRequestPaymentInput, PutBucketRequestPaymentOutput, PutBucketTaggingInput, PutBucketTaggingOutput, PutBucketWebsiteInput, PutBucketWebsiteOutput, PutObjectAclInput, PutObjectAclOutput, PutObjectInput, PutObjectOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// Keys of one page, and of one DeleteObjects, as at S3.
const PAGE_MAX: i32 = 1000;
const DELETE_MAX: usize = 1000;

/// The S3 view of one identity's buckets.
#[derive(Clone)]
pub struct Objects {
    pub(super) cloud: Local,
    pub(super) uploads: Uploads,
    /// Who may use them.
    pub(super) keyring: Keyring,
    /// What a bucket made through this door shall be; it is paid from the identity's budget.
    pub(super) wish: Wish,
}

impl Objects {
    pub fn new(cloud: Local, wish: Wish, keyring: Keyring) -> Self {
        Self { cloud, uploads: Uploads::default(), keyring, wish }
    }

    pub(super) async fn must_exist(&self, bucket: &str) -> S3Result<()> {
        match self.cloud.bucket(bucket).await.map_err(fault)? {
            Some(_) => Ok(()),
            None => Err(s3_error!(NoSuchBucket, "The specified bucket does not exist: {bucket}")),
        }
    }
}

pub(super) fn timestamp(ms: u64) -> Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).into()
}

/// What a put may be conditional on; conditions on a state not kept are refused rather than ignored.
pub(super) fn if_absent(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::default()),
        (None, Some(ETagCondition::Any)) => Ok(Condition::absent()),
        _ => Err(s3_error!(NotImplemented, "Of the conditions on a write only If-None-Match: * is supported yet.")),
    }
}

/// Headers that ask for what is not built: an error, since ignoring them would lose a promise.
macro_rules! refuse {
    ($input:expr, $($field:ident),+) => {
        $(if $input.$field.is_some() {
            return Err(s3_error!(NotImplemented, "{} is not supported yet.", stringify!($field).replace('_', "-")));
        })+
    };
}
pub(super) use refuse;

#[async_trait::async_trait]
impl S3 for Objects {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.own_buckets(request).await
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.make_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.must_exist(&request.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.must_exist(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.cloud.delete_bucket(&request.input.bucket).await.map_err(fault)?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (declared, promised) = body::declared(&request);
        let stamp = request.extensions.get::<Stamp>().cloned().unwrap_or_default();
        let (mut input, trailers) = (request.input, request.trailing_headers);
        refuse!(input, tagging, object_lock_mode, object_lock_legal_hold_status, sse_customer_key, ssekms_key_id,
            website_redirect_location, write_offset_bytes);
        let condition = if_absent(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let meta = body::meta(&mut input)?;
        let (source, verdict) = body::checked(input.body, declared, promised, trailers);
        let options = Options {
            content_type: input.content_type.unwrap_or_else(|| "binary/octet-stream".into()),
            meta,
            finish: Some(body::finish(verdict.clone())),
            condition,
            owner: stamp.owner,
            acl: stamp.acl,
            ..Options::default()
        };
        let put = self.cloud.put(&input.bucket, &input.key, source, options).await;
        let put = put.map_err(|error| body::blame(error, &verdict))?;
        let Hashed { checksum, .. } = body::hashed(&verdict)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(put.entry.etag)),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..PutObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        refuse!(input, version_id, sse_customer_key, part_number);
        let entry = self.cloud.head(&input.bucket, &input.key).await.map_err(fault)?;
        let entry = entry.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist: {}", input.key))?;
        body::preconditions(&entry, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let (size, mut meta) = (entry.size_bytes(), entry.meta);
        let range = input.range.map(|range| range.check(size)).transpose()?;
        let length = range.as_ref().map_or(size, |range| range.end - range.start);
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(length as i64),
            content_range: range.map(|range| body::content_range(&range, size)),
            content_type: Some(entry.content_type),
            e_tag: Some(ETag::Strong(entry.etag)),
            last_modified: Some(timestamp(entry.modified_ms)),
            cache_control: meta.remove(":cache-control"),
            content_disposition: meta.remove(":content-disposition"),
            content_encoding: meta.remove(":content-encoding"),
            content_language: meta.remove(":content-language"),
            metadata: Some(meta.into_iter().collect()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        refuse!(input, version_id, sse_customer_key, part_number);
        let entry = self.cloud.head(&input.bucket, &input.key).await.map_err(fault)?;
        let entry = entry.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist: {}", input.key))?;
        body::preconditions(&entry, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let size = entry.size_bytes();
        let range = input.range.map(|range| range.check(size)).transpose()?;
        let got = self.cloud.get(&input.bucket, &input.key, range.clone()).await;
        let (entry, bytes) = match got {
            // Replaced by a shorter object between the two looks: the range is judged on the new one.
            Err(Fault::Range { .. }) => return Err(s3_error!(InvalidRange, "The requested range is not satisfiable")),
            got => got.map_err(fault)?,
        };
        let (size, mut meta) = (entry.size_bytes(), entry.meta);
        let length = range.as_ref().map_or(size, |range| range.end - range.start);
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            body: Some(StreamingBlob::wrap(Exclusive::new(bytes))),
            content_length: Some(length as i64),
            content_range: range.map(|range| body::content_range(&range, size)),
            content_type: input.response_content_type.or(Some(entry.content_type)),
            e_tag: Some(ETag::Strong(entry.etag)),
            last_modified: Some(timestamp(entry.modified_ms)),
            cache_control: input.response_cache_control.or_else(|| meta.remove(":cache-control")),
            content_disposition: input.response_content_disposition.or_else(|| meta.remove(":content-disposition")),
            content_encoding: input.response_content_encoding.or_else(|| meta.remove(":content-encoding")),
            content_language: input.response_content_language.or_else(|| meta.remove(":content-language")),
            metadata: Some(meta.into_iter().filter(|(name, _)| !name.starts_with(':')).collect()),
            ..GetObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let max = input.max_keys.unwrap_or(PAGE_MAX);
        if max < 0 {
            return Err(s3_error!(InvalidArgument, "max-keys must not be negative"));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let token = input.continuation_token.as_deref().map(decode_token).transpose()?;
        let after = token.as_deref().or(input.start_after.as_deref());
        let limit = max.min(PAGE_MAX) as usize;
        let page = self.cloud.list(&input.bucket, &prefix, after, input.delimiter.as_deref(), limit).await;
        let page = page.map_err(fault)?;
        let url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == "url");
        let text = |key: &str| if url { encode(key) } else { key.to_owned() };
        let contents: Vec<Object> = page
            .entries
            .iter()
            .map(|(key, entry)| Object {
                key: Some(text(key)),
                e_tag: Some(ETag::Strong(entry.etag.clone())),
                size: Some(entry.size_bytes() as i64),
                last_modified: Some(timestamp(entry.modified_ms)),
                ..Object::default()
            })
            .collect();
        let prefixes: Vec<CommonPrefix> =
            page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(text(prefix)) }).collect();
        // With max-keys 0 nothing is listed and nothing is cut off.
        let next = page.next.filter(|_| limit > 0);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(text(&prefix)),
            max_keys: Some(max),
            key_count: Some((contents.len() + prefixes.len()) as i32),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.map(|key| base64_simd::URL_SAFE_NO_PAD.encode_to_string(key)),
            continuation_token: input.continuation_token,
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.map(|delimiter| text(&delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| text(&after)),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        refuse!(input, version_id);
        match self.cloud.remove(&input.bucket, &input.key).await {
            // Deleting what is not there succeeds, as at S3.
            Ok(()) | Err(Fault::NoObject { .. }) => Ok(S3Response::new(DeleteObjectOutput::default())),
            Err(error) => Err(fault(error)),
        }
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let kept = request.extensions.get::<Kept>().cloned().unwrap_or_default();
        let input = request.input;
        if input.delete.objects.len() + kept.0.len() > DELETE_MAX {
            return Err(s3_error!(MalformedXML, "At most 1000 objects can be deleted at once."));
        }
        self.must_exist(&input.bucket).await?;
        let removals = input.delete.objects.iter().map(|object| self.cloud.remove(&input.bucket, &object.key));
        // All at once: their changes of the index are then swapped in together.
        let outcomes = futures::future::join_all(removals).await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (object, outcome) in input.delete.objects.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) | Err(Fault::NoObject { .. }) => {
                    deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
                }
                Err(error) => {
                    let error = fault(error);
                    errors.push(Error {
                        key: Some(object.key),
                        code: Some(error.code().as_str().into()),
                        message: error.message().map(Into::into),
                        ..Error::default()
                    });
                }
            }
        }
        errors.extend(kept.0.into_iter().map(|object| Error {
            key: Some(object.key),
            version_id: object.version_id,
            code: Some("AccessDenied".into()),
            message: Some("Access Denied".into()),
        }));
        let deleted = if input.delete.quiet == Some(true) { Vec::new() } else { deleted };
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.begin(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.upload(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.complete(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.uploads.abort(&request.input.upload_id, &request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    // Who may use a bucket, and what it says about itself.
    async fn put_bucket_policy(&self, request: S3Request<PutBucketPolicyInput>) -> S3Result<S3Response<PutBucketPolicyOutput>> {
        self.put_policy(request).await
    }

    async fn get_bucket_policy(&self, request: S3Request<GetBucketPolicyInput>) -> S3Result<S3Response<GetBucketPolicyOutput>> {
        self.get_policy(request).await
    }

    async fn delete_bucket_policy(&self, request: S3Request<DeleteBucketPolicyInput>) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
        self.delete_policy(request).await
    }

    async fn get_bucket_policy_status(&self, request: S3Request<GetBucketPolicyStatusInput>) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
        self.policy_status(request).await
    }

    async fn put_bucket_acl(&self, request: S3Request<PutBucketAclInput>) -> S3Result<S3Response<PutBucketAclOutput>> {
        self.put_bucket_list(request).await
    }

    async fn get_bucket_acl(&self, request: S3Request<GetBucketAclInput>) -> S3Result<S3Response<GetBucketAclOutput>> {
        self.get_bucket_list(request).await
    }

    async fn put_object_acl(&self, request: S3Request<PutObjectAclInput>) -> S3Result<S3Response<PutObjectAclOutput>> {
        self.put_object_list(request).await
    }

    async fn get_object_acl(&self, request: S3Request<GetObjectAclInput>) -> S3Result<S3Response<GetObjectAclOutput>> {
        self.get_object_list(request).await
    }

    async fn put_public_access_block(&self, request: S3Request<PutPublicAccessBlockInput>) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
        self.put_block(request).await
    }

    async fn get_public_access_block(&self, request: S3Request<GetPublicAccessBlockInput>) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        self.get_block(request).await
    }

    async fn delete_public_access_block(&self, request: S3Request<DeletePublicAccessBlockInput>) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
        self.delete_block(request).await
    }

    async fn put_bucket_ownership_controls(&self, request: S3Request<PutBucketOwnershipControlsInput>) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
        self.put_ownership(request).await
    }

    async fn get_bucket_ownership_controls(&self, request: S3Request<GetBucketOwnershipControlsInput>) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
        self.get_ownership(request).await
    }

    async fn delete_bucket_ownership_controls(&self, request: S3Request<DeleteBucketOwnershipControlsInput>) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
        self.delete_ownership(request).await
    }

    async fn put_bucket_cors(&self, request: S3Request<PutBucketCorsInput>) -> S3Result<S3Response<PutBucketCorsOutput>> {
        self.put_cors(request).await
    }

    async fn get_bucket_cors(&self, request: S3Request<GetBucketCorsInput>) -> S3Result<S3Response<GetBucketCorsOutput>> {
        self.get_cors(request).await
    }

    async fn delete_bucket_cors(&self, request: S3Request<DeleteBucketCorsInput>) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        self.delete_cors(request).await
    }

    async fn put_bucket_tagging(&self, request: S3Request<PutBucketTaggingInput>) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        self.tag_bucket(request).await
    }

    async fn get_bucket_tagging(&self, request: S3Request<GetBucketTaggingInput>) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        self.bucket_tags(request).await
    }

    async fn delete_bucket_tagging(&self, request: S3Request<DeleteBucketTaggingInput>) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        self.untag_bucket(request).await
    }

    async fn put_bucket_website(&self, request: S3Request<PutBucketWebsiteInput>) -> S3Result<S3Response<PutBucketWebsiteOutput>> {
        self.put_website(request).await
    }

    async fn get_bucket_website(&self, request: S3Request<GetBucketWebsiteInput>) -> S3Result<S3Response<GetBucketWebsiteOutput>> {
        self.get_website(request).await
    }

    async fn delete_bucket_website(&self, request: S3Request<DeleteBucketWebsiteInput>) -> S3Result<S3Response<DeleteBucketWebsiteOutput>> {
        self.delete_website(request).await
    }

    async fn put_bucket_encryption(&self, request: S3Request<PutBucketEncryptionInput>) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
        self.put_encryption(request).await
    }

    async fn get_bucket_encryption(&self, request: S3Request<GetBucketEncryptionInput>) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        self.get_encryption(request).await
    }

    async fn delete_bucket_encryption(&self, request: S3Request<DeleteBucketEncryptionInput>) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
        self.delete_encryption(request).await
    }

    async fn put_bucket_request_payment(&self, request: S3Request<PutBucketRequestPaymentInput>) -> S3Result<S3Response<PutBucketRequestPaymentOutput>> {
        self.put_payment(request).await
    }

    async fn get_bucket_request_payment(&self, request: S3Request<GetBucketRequestPaymentInput>) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
        self.get_payment(request).await
    }

    async fn put_bucket_logging(&self, request: S3Request<PutBucketLoggingInput>) -> S3Result<S3Response<PutBucketLoggingOutput>> {
        self.put_logging(request).await
    }

    async fn get_bucket_logging(&self, request: S3Request<GetBucketLoggingInput>) -> S3Result<S3Response<GetBucketLoggingOutput>> {
        self.get_logging(request).await
    }

    async fn put_bucket_notification_configuration(&self, request: S3Request<PutBucketNotificationConfigurationInput>) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
        self.put_notification(request).await
    }

    async fn get_bucket_notification_configuration(&self, request: S3Request<GetBucketNotificationConfigurationInput>) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
        self.get_notification(request).await
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// Percent-encoding as S3 applies it to listed keys: everything but unreserved characters and the slash.
fn encode(key: &str) -> String {
    use std::fmt::Write as _;
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    })
}

/// Names of metadata, sorted, as the index keeps them.
pub(super) type Meta = BTreeMap<String, String>;
