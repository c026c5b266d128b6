//! Put an object in one request.

use super::{
    body,
    checksum::{Declared, Hashed},
    customer,
    describe::{self, Describes as _, ENCRYPTION},
    digest::{self, Tells as _},
    lifecycle,
    objects::Objects,
    remove::tag,
    version,
};
use hodei_sdk::{Entry, condition::Condition, upload::Options};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{ETag, ETagCondition, PutObjectInput, PutObjectOutput, ServerSideEncryption},
    s3_error,
};

/// What must hold of what the key names, as headers say it.
pub(super) fn condition(matches: Option<&ETagCondition>, differs: Option<&ETagCondition>) -> Condition {
    Condition { matches: matches.map(tag), differs: differs.map(tag), ..Condition::default() }
}

/// What an answer says of the server's encryption.
pub(super) fn encryption(entry: &Entry) -> Option<ServerSideEncryption> {
    entry.meta.get(ENCRYPTION).cloned().map(ServerSideEncryption::from)
}

impl Objects {
    pub(super) async fn put(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (declared, promised) = body::declared(&request)?;
        let (mut input, trailers) = (request.input, request.trailing_headers);
        if input.write_offset_bytes.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "An object is put whole: x-amz-write-offset-bytes is not supported."
            ));
        }
        let wanted = digest::parse(input.checksum_algorithm.as_ref())?;
        let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref());
        let (entry, customer) = self.describe(input.described(), &input.bucket, &request.extensions).await?;
        let encryption = encryption(&entry);
        let (source, verdict) = body::checked(input.body, Declared { wanted, ..declared }, promised, trailers);
        let finish = Some(body::finish(verdict.clone()));
        let options = Options { customer, condition, finish, ..describe::options(entry) };
        let put = self.cloud.put(&input.bucket, &input.key, source, options).await;
        let put = put.map_err(|error| body::blame(error, &verdict))?;
        let Hashed { checksum, .. } = body::hashed(&verdict)?;
        let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(put.entry.customer.as_ref());
        let settings = self.said(&input.bucket, &request.extensions).await.unwrap_or_default();
        let mut output = PutObjectOutput {
            expiration: lifecycle::expiration(&settings, &input.key, &put.entry),
            version_id: version::made(put.entry.version),
            checksum_type: put.entry.checksum.as_ref().map(|checksum| digest::kind(checksum.composite)),
            e_tag: Some(ETag::Strong(put.entry.etag)),
            server_side_encryption: encryption,
            sse_customer_algorithm,
            sse_customer_key_md5,
            ..PutObjectOutput::default()
        };
        output.tell(checksum);
        Ok(S3Response::new(output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_sdk::condition::Tag;

    #[test]
    fn headers_become_a_condition() {
        assert_eq!(condition(None, None), Condition::default());
        assert_eq!(condition(None, Some(&ETagCondition::Any)), Condition::absent());
        let is = ETagCondition::ETag(ETag::Strong("a".into()));
        assert_eq!(condition(Some(&is), None).matches, Some(Tag::Is("a".into())));
    }
}
