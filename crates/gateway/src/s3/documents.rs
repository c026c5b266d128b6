//! Set and show what a bucket says about itself.
//!
//! A document is kept as S3's XML, a policy as it was sent, an access list in one line. What this cloud does
//! not act on is refused when it is set, never kept as if it were obeyed.

use super::{fault::fault, objects::Objects};
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{
        CORSConfiguration, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketEncryptionInput,
        DeleteBucketEncryptionOutput, DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteBucketWebsiteInput,
        DeleteBucketWebsiteOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput,
        GetBucketEncryptionOutput, GetBucketLoggingInput, GetBucketLoggingOutput,
        GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
        GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
        GetBucketWebsiteInput, GetBucketWebsiteOutput, Payer, PutBucketCorsInput, PutBucketCorsOutput,
        PutBucketEncryptionInput, PutBucketEncryptionOutput, PutBucketLoggingInput, PutBucketLoggingOutput,
        PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput,
        PutBucketRequestPaymentInput, PutBucketRequestPaymentOutput, PutBucketTaggingInput, PutBucketTaggingOutput,
        PutBucketWebsiteInput, PutBucketWebsiteOutput, ServerSideEncryption, ServerSideEncryptionConfiguration,
        Tagging, WebsiteConfiguration,
    },
    s3_error,
    xml::{Deserialize, Deserializer, Serialize, Serializer},
};
use std::collections::BTreeMap;

/// The documents' names.
pub(super) mod name {
    pub(crate) const OWNER: &str = "owner";
    pub(crate) use hodei_sdk::change::CREATED;
    pub(crate) const ACL: &str = "acl";
    pub(crate) const POLICY: &str = "policy";
    pub(crate) const CORS: &str = "cors";
    pub(crate) const PUBLIC_ACCESS: &str = "public-access";
    pub(crate) const OWNERSHIP: &str = "ownership";
    pub(crate) const TAGGING: &str = "tagging";
    pub(crate) const WEBSITE: &str = "website";
    pub(crate) const ENCRYPTION: &str = "encryption";
}

/// S3's limits.
const TAGS_MAX: usize = 50;
const TAG_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
const CORS_RULES_MAX: usize = 100;
const CORS_METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const ROUTING_RULES_MAX: usize = 50;

/// A document as it is kept.
pub(super) fn write(value: &impl Serialize) -> S3Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::new(&mut bytes)).map_err(S3Error::internal_error)?;
    String::from_utf8(bytes).map_err(S3Error::internal_error)
}

/// A document, if it is there.
pub(super) fn read<T: for<'xml> Deserialize<'xml>>(
    settings: &BTreeMap<String, String>,
    name: &str,
) -> S3Result<Option<T>> {
    let Some(text) = settings.get(name) else { return Ok(None) };
    let value = T::deserialize(&mut Deserializer::new(text.as_bytes()));
    value.map(Some).map_err(|error| s3_error!(InternalError, "the bucket's document `{name}` cannot be read: {error}"))
}

impl Objects {
    /// A document that must be there.
    async fn shown<T: for<'xml> Deserialize<'xml>>(
        &self,
        bucket: &str,
        name: &str,
        absent: S3ErrorCode,
    ) -> S3Result<T> {
        let settings = self.cloud.settings(bucket).await.map_err(fault)?;
        read(&settings, name)?
            .ok_or_else(|| S3Error::with_message(absent, format!("The bucket has no such document: {name}")))
    }

    async fn keep(&self, bucket: &str, name: &str, document: Option<String>) -> S3Result<()> {
        self.cloud.set(bucket, name, document).await.map_err(fault)
    }

    pub(super) async fn put_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<S3Response<PutBucketCorsOutput>> {
        let input = request.input;
        let rules = &input.cors_configuration.cors_rules;
        if rules.is_empty() || rules.len() > CORS_RULES_MAX {
            return Err(s3_error!(MalformedXML, "There are 1 to {CORS_RULES_MAX} rules, found {}.", rules.len()));
        }
        for rule in rules {
            if let Some(method) = rule.allowed_methods.iter().find(|method| !CORS_METHODS.contains(&method.as_str())) {
                return Err(s3_error!(InvalidRequest, "Found unsupported HTTP method in CORS config: {method:?}"));
            }
            let headers = rule.allowed_headers.iter().flatten();
            if let Some(found) = rule.allowed_origins.iter().chain(headers).find(|text| text.matches('*').count() > 1) {
                return Err(s3_error!(InvalidRequest, "An origin or header has at most one *, found {found:?}"));
            }
        }
        self.keep(&input.bucket, name::CORS, Some(write(&input.cors_configuration)?)).await?;
        Ok(S3Response::new(PutBucketCorsOutput::default()))
    }

    pub(super) async fn get_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        let cors: CORSConfiguration =
            self.shown(&request.input.bucket, name::CORS, S3ErrorCode::NoSuchCORSConfiguration).await?;
        Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(cors.cors_rules) }))
    }

    pub(super) async fn delete_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        self.keep(&request.input.bucket, name::CORS, None).await?;
        Ok(S3Response::new(DeleteBucketCorsOutput::default()))
    }

    pub(super) async fn tag_bucket(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        let input = request.input;
        let mut seen = std::collections::BTreeSet::new();
        for tag in &input.tagging.tag_set {
            let (key, value) = (tag.key.as_deref().unwrap_or(""), tag.value.as_deref().unwrap_or(""));
            if key.is_empty() || key.chars().count() > TAG_CHARS_MAX || value.chars().count() > TAG_VALUE_CHARS_MAX {
                return Err(s3_error!(InvalidTag, "A tag has 1 to 128 characters, its value at most 256: {key:?}"));
            }
            if super::tagging::is_reserved(key) {
                return Err(s3_error!(InvalidTag, "System tags cannot be added/updated by requester: {key:?}"));
            }
            if !seen.insert(key) {
                return Err(s3_error!(InvalidTag, "Two tags have one key: {key:?}"));
            }
        }
        if seen.len() > TAGS_MAX {
            return Err(s3_error!(InvalidTag, "A bucket has at most {TAGS_MAX} tags, found {}.", seen.len()));
        }
        self.keep(&input.bucket, name::TAGGING, Some(write(&input.tagging)?)).await?;
        Ok(S3Response::new(PutBucketTaggingOutput::default()))
    }

    pub(super) async fn bucket_tags(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let tagging: Tagging = self.shown(&request.input.bucket, name::TAGGING, S3ErrorCode::NoSuchTagSet).await?;
        Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tagging.tag_set }))
    }

    pub(super) async fn untag_bucket(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        self.keep(&request.input.bucket, name::TAGGING, None).await?;
        Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
    }

    pub(super) async fn put_website(
        &self,
        request: S3Request<PutBucketWebsiteInput>,
    ) -> S3Result<S3Response<PutBucketWebsiteOutput>> {
        let input = request.input;
        let site = &input.website_configuration;
        let suffix = site.index_document.as_ref().map(|index| index.suffix.as_str());
        if site.redirect_all_requests_to.is_none()
            && !suffix.is_some_and(|suffix| !suffix.is_empty() && !suffix.contains('/'))
        {
            return Err(s3_error!(InvalidArgument, "A website has an index document, whose suffix has no slash."));
        }
        if site.routing_rules.as_ref().is_some_and(|rules| rules.len() > ROUTING_RULES_MAX) {
            return Err(s3_error!(InvalidRequest, "A website has at most {ROUTING_RULES_MAX} routing rules."));
        }
        self.keep(&input.bucket, name::WEBSITE, Some(write(site)?)).await?;
        Ok(S3Response::new(PutBucketWebsiteOutput::default()))
    }

    pub(super) async fn get_website(
        &self,
        request: S3Request<GetBucketWebsiteInput>,
    ) -> S3Result<S3Response<GetBucketWebsiteOutput>> {
        let site: WebsiteConfiguration =
            self.shown(&request.input.bucket, name::WEBSITE, S3ErrorCode::NoSuchWebsiteConfiguration).await?;
        Ok(S3Response::new(GetBucketWebsiteOutput {
            error_document: site.error_document,
            index_document: site.index_document,
            redirect_all_requests_to: site.redirect_all_requests_to,
            routing_rules: site.routing_rules,
        }))
    }

    pub(super) async fn delete_website(
        &self,
        request: S3Request<DeleteBucketWebsiteInput>,
    ) -> S3Result<S3Response<DeleteBucketWebsiteOutput>> {
        self.keep(&request.input.bucket, name::WEBSITE, None).await?;
        Ok(S3Response::new(DeleteBucketWebsiteOutput::default()))
    }

    /// Everything is sealed under the bucket's keys anyway, which is what SSE-S3 promises; keys of a key
    /// management service there are none.
    pub(super) async fn put_encryption(
        &self,
        request: S3Request<PutBucketEncryptionInput>,
    ) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
        let input = request.input;
        let rules = &input.server_side_encryption_configuration.rules;
        let [rule] = rules.as_slice() else {
            return Err(s3_error!(MalformedXML, "There is one rule, found {}.", rules.len()));
        };
        let Some(default) = &rule.apply_server_side_encryption_by_default else {
            return Err(s3_error!(MalformedXML, "The rule says what to apply by default."));
        };
        if default.sse_algorithm.as_str() != ServerSideEncryption::AES256 || default.kms_master_key_id.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "Of default encryption AES256 is supported, found {}.",
                default.sse_algorithm.as_str()
            ));
        }
        self.keep(&input.bucket, name::ENCRYPTION, Some(write(&input.server_side_encryption_configuration)?)).await?;
        Ok(S3Response::new(PutBucketEncryptionOutput::default()))
    }

    pub(super) async fn get_encryption(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        let Some(found) = read::<ServerSideEncryptionConfiguration>(&settings, name::ENCRYPTION)? else {
            let mut error = s3_error!(
                ServerSideEncryptionConfigurationNotFoundError,
                "The server side encryption configuration was not found"
            );
            error.set_status_code(hyper::StatusCode::NOT_FOUND);
            return Err(error);
        };
        Ok(S3Response::new(GetBucketEncryptionOutput { server_side_encryption_configuration: Some(found) }))
    }

    pub(super) async fn delete_encryption(
        &self,
        request: S3Request<DeleteBucketEncryptionInput>,
    ) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
        self.keep(&request.input.bucket, name::ENCRYPTION, None).await?;
        Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
    }

    /// The owner pays: nobody else has an account with him.
    pub(super) async fn put_payment(
        &self,
        request: S3Request<PutBucketRequestPaymentInput>,
    ) -> S3Result<S3Response<PutBucketRequestPaymentOutput>> {
        self.must_exist(&request.input.bucket).await?;
        match request.input.request_payment_configuration.payer.as_str() {
            Payer::BUCKET_OWNER => Ok(S3Response::new(PutBucketRequestPaymentOutput::default())),
            Payer::REQUESTER => Err(s3_error!(NotImplemented, "Requests are paid by the bucket's owner.")),
            found => Err(s3_error!(MalformedXML, "The payer is BucketOwner or Requester, found {found:?}")),
        }
    }

    pub(super) async fn get_payment(
        &self,
        request: S3Request<GetBucketRequestPaymentInput>,
    ) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
        self.must_exist(&request.input.bucket).await?;
        let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
        Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
    }

    pub(super) async fn put_logging(
        &self,
        request: S3Request<PutBucketLoggingInput>,
    ) -> S3Result<S3Response<PutBucketLoggingOutput>> {
        self.must_exist(&request.input.bucket).await?;
        if request.input.bucket_logging_status.logging_enabled.is_some() {
            return Err(s3_error!(NotImplemented, "Logs are not delivered to buckets: the gateway writes its own."));
        }
        Ok(S3Response::new(PutBucketLoggingOutput::default()))
    }

    pub(super) async fn get_logging(
        &self,
        request: S3Request<GetBucketLoggingInput>,
    ) -> S3Result<S3Response<GetBucketLoggingOutput>> {
        self.must_exist(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketLoggingOutput::default()))
    }

    pub(super) async fn put_notification(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
        self.must_exist(&request.input.bucket).await?;
        let wanted = request.input.notification_configuration;
        let is_empty = wanted.event_bridge_configuration.is_none()
            && wanted.lambda_function_configurations.is_none_or(|list| list.is_empty())
            && wanted.queue_configurations.is_none_or(|list| list.is_empty())
            && wanted.topic_configurations.is_none_or(|list| list.is_empty());
        if !is_empty {
            return Err(s3_error!(NotImplemented, "Notifications are not sent."));
        }
        Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
    }

    pub(super) async fn get_notification(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
        self.must_exist(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketNotificationConfigurationOutput::default()))
    }
}
