//! Let a request through, or refuse it before its body is read.
//!
//! Upon a request: whose key signed it, which bucket it is about and what that says about itself, what the
//! object says where that matters; then [`super::decide`]. What is in the body is judged once it was read:
//! the keys of a deletion of several, and tags. Who asks, and what an object is put with, goes
//! along in the request's extensions.

use super::{
    acl::{Acl, Canned, Permission, Wanted},
    action::{Action, Target},
    decide::{Guard, Known, Ownership, Question},
    extras,
    facts::{self, Arrival},
    fault::fault,
    form::Signer,
    keys::{Keyring, now_ms},
    names,
    objects::Objects,
    policy::Facts,
    principal::{Caller, Stamp},
    quota::Underway,
    uploads::Uploads,
};
use hodei_sdk::{Local, index::Settings, usage::Usage};
use hyper::http::Extensions;
use s3s::{
    S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    dto::{
        CopySource, DeleteObjectsInput, GetObjectInput, HeadBucketInput, HeadObjectInput, ListObjectsInput,
        ListObjectsV2Input, ObjectIdentifier, PutObjectInput, PutObjectTaggingInput,
    },
    header,
    path::S3Path,
    s3_error,
};
use std::sync::Arc;

/// Operations that take a bucket named with its account, `account:bucket`.
const WITH_ACCOUNT: [&str; 6] = ["HeadBucket", "ListObjects", "ListObjectsV2", "HeadObject", "GetObject", "PutObject"];

/// Judges requests.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) cloud: Local,
    pub(super) keyring: Keyring,
    pub(super) uploads: Uploads,
    pub(super) underway: Underway,
}

/// What was known before the body, for what waits for it.
#[derive(Clone)]
struct Waiting {
    guard: Arc<Guard>,
    facts: Arc<Facts>,
}

/// What a request's bucket said about itself when the request was let in: asked for once.
#[derive(Clone)]
pub(super) struct Said {
    bucket: String,
    settings: Arc<Settings>,
}

impl Said {
    /// Of this bucket, if it is the request's.
    pub(super) fn of(extensions: &Extensions, bucket: &str) -> Option<Arc<Settings>> {
        extensions.get::<Self>().filter(|said| said.bucket == bucket).map(|said| said.settings.clone())
    }
}

/// Objects of a deletion of several that stay, with who asked not being allowed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(pub(super) Vec<ObjectIdentifier>);

pub(super) fn denied() -> s3s::S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

impl Access {
    pub(super) fn of(objects: &Objects) -> Self {
        let Objects { cloud, keyring, uploads, underway, .. } = objects.clone();
        Self { cloud, keyring, uploads, underway }
    }

    pub(super) async fn guard(&self, bucket: &str) -> S3Result<Guard> {
        let settings = self.cloud.settings(bucket).await.map_err(fault)?;
        Guard::of(bucket, &settings, &self.keyring)
    }

    /// The same, and what the bucket says goes along with the request.
    async fn guard_noted(&self, bucket: &str, cx: &mut S3AccessContext<'_>) -> S3Result<Guard> {
        let settings = self.cloud.settings(bucket).await.map_err(fault)?;
        let guard = Guard::of(bucket, &settings, &self.keyring);
        cx.extensions_mut().insert(Said { bucket: bucket.to_owned(), settings });
        guard
    }

    /// Whether one thing is allowed; what the object says is looked up where it matters.
    pub(super) async fn judge(&self, guard: &Guard, question: Question<'_>, version: Option<&str>) -> S3Result<()> {
        let (bucket, action) = (question.bucket, question.action);
        let Some(key) = question.key.filter(|_| guard.asks_object(&action)) else {
            return if guard.allows(&question, None) { Ok(()) } else { Err(denied()) };
        };
        let Some(entry) = self.entry(&question, version).await? else {
            // Who may list learns that nothing is there; what changes something is not allowed by that.
            let may_know = guard.allows(&question, None)
                || action.reads && guard.may_list(question.caller, bucket, key, question.facts);
            return if may_know { Ok(()) } else { Err(denied()) };
        };
        let mut facts = question.facts.clone();
        facts::existing(&mut facts, &entry.tags);
        let known = Known { owner: entry.owner, acl: entry.acl.as_deref().map(Acl::decode) };
        if guard.allows(&Question { facts: &facts, ..question }, Some(&known)) { Ok(()) } else { Err(denied()) }
    }

    /// What is put with a request's headers.
    fn stamp(&self, guard: &Guard, caller: &Caller, wanted: Wanted) -> S3Result<Stamp> {
        if guard.block.new_acls && wanted.is_public() {
            return Err(s3_error!(AccessDenied, "The bucket's public access block refuses public access lists."));
        }
        let gives_away = matches!(wanted, Wanted::Canned(Canned::BucketOwnerFullControl));
        if guard.ownership == Ownership::Enforced {
            return match wanted {
                Wanted::Nothing => Ok(Stamp::default()),
                _ if gives_away => Ok(Stamp::default()),
                _ => Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow access lists.")),
            };
        }
        // What nobody has put would be nobody's: it is the bucket's owner's.
        let writer = caller.id().unwrap_or(&guard.owner);
        let owner = if guard.ownership == Ownership::Preferred && gives_away { &guard.owner } else { writer };
        let acl = wanted.resolve(owner, &guard.owner);
        Ok(Stamp { owner: (owner != guard.owner).then(|| owner.to_owned()), acl: acl.map(|acl| acl.encode()) })
    }

    /// Reading what is copied, and the tags that go along; `put` is the question of an object's copy.
    async fn copy(
        &self,
        caller: &Caller,
        facts: &Facts,
        from: &str,
        put: Option<(&Guard, &Question<'_>)>,
    ) -> S3Result<()> {
        // What cannot be read as a source is refused where it is used.
        let Ok(CopySource::Bucket { bucket, key, version_id }) = CopySource::parse(from) else { return Ok(()) };
        let guard = self.guard(&bucket).await?;
        if let Some(expected) = facts.get("hodei:source-owner").first()
            && *expected != guard.owner
        {
            return Err(denied());
        }
        let action = Action::of("GetObject", version_id.is_some());
        let question = Question { caller, action, bucket: &bucket, key: Some(&key), facts };
        self.judge(&guard, question, version_id.as_deref()).await?;
        match put {
            Some(put) => self.judge_copied(put, (&guard, &question), version_id.as_deref()).await,
            None => Ok(()),
        }
    }

    /// Whether an object may be read, for doors that speak no S3.
    pub(super) async fn may_read(&self, caller: &Caller, bucket: &str, key: &str, arrival: Arrival) -> S3Result<()> {
        let guard = self.guard(bucket).await?;
        let facts = facts::of_arrival(arrival);
        let action = Action::of("GetObject", false);
        self.judge(&guard, Question { caller, action, bucket, key: Some(key), facts: &facts }, None).await
    }

    fn caller(&self, cx: &mut S3AccessContext<'_>) -> S3Result<Caller> {
        // A form was signed before it became this request.
        let form = cx.extensions_mut().get::<Signer>().map(|signer| signer.access_key_id.clone());
        let Some(id) = cx.credentials().map(|credentials| credentials.access_key.clone()).or(form) else {
            return Ok(Caller::default());
        };
        // It signed a moment ago; that it is gone now is as good as never having been.
        let held = self.keyring.held(&id, now_ms());
        let held = held.ok_or_else(|| s3_error!(InvalidAccessKeyId, "The access key is no longer in use."))?;
        Ok(Caller { principal: Some(held.principal.clone()), scope: held.key.scope.clone() })
    }
}

/// What a request wants for the access list of what it makes, from its headers.
pub(super) fn wanted(headers: &hyper::HeaderMap, keyring: &Keyring) -> S3Result<Wanted> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let grants: Vec<(Permission, &str)> = [
        (Permission::Read, "x-amz-grant-read"),
        (Permission::Write, "x-amz-grant-write"),
        (Permission::ReadAcp, "x-amz-grant-read-acp"),
        (Permission::WriteAcp, "x-amz-grant-write-acp"),
        (Permission::FullControl, "x-amz-grant-full-control"),
    ]
    .into_iter()
    .filter_map(|(permission, name)| Some((permission, text(name)?)))
    .collect();
    Wanted::parse(text("x-amz-acl"), &grants, keyring)
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = self.caller(cx)?;
        let operation = cx.s3_op().name().to_owned();
        let facts = facts::of(cx, caller.principal.as_deref());
        let version = facts.get("s3:VersionId").first().cloned();
        let action = Action::of(&operation, version.is_some());
        cx.extensions_mut().insert(caller.clone());
        let (bucket, key) = match cx.s3_path() {
            S3Path::Root => (None, None),
            S3Path::Bucket { bucket } => (Some(bucket.to_string()), None),
            S3Path::Object { bucket, key } => (Some(bucket.to_string()), Some(key.to_string())),
        };
        let Some(bucket) = bucket else {
            // One's own are listed; who has none, and nobody in particular, sees none.
            let may = action.target == Target::Service && caller.scope.allows(action.reads, None, None, None);
            return if may { Ok(()) } else { Err(denied()) };
        };
        let account = names::split(&bucket).0.map(str::to_owned);
        let bucket = names::split(&bucket).1.to_owned();
        if account.is_some() && !WITH_ACCOUNT.contains(&operation.as_str()) {
            return Err(s3_error!(
                NotImplemented,
                "{operation} takes a bucket without its account: names are unique among all."
            ));
        }
        if action.target == Target::Service {
            let may = caller.principal.is_some() && caller.scope.allows(action.reads, Some(&bucket), None, None);
            return if may { Ok(()) } else { Err(denied()) };
        }
        let guard = self.guard_noted(&bucket, cx).await?;
        if account.is_some_and(|account| account != guard.tenant) {
            return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist: {bucket}"));
        }
        if let Some(expected) = cx.headers().get(header::X_AMZ_EXPECTED_BUCKET_OWNER)
            && expected.as_bytes() != guard.owner.as_bytes()
        {
            return Err(denied());
        }
        if caller.principal.is_none() && facts::overrides_headers(cx.uri()) {
            return Err(s3_error!(
                InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests."
            ));
        }
        if action.waits {
            let waiting = Waiting { guard: Arc::new(guard), facts: Arc::new(facts) };
            cx.extensions_mut().insert(waiting);
            return Ok(());
        }
        let question = Question { caller: &caller, action, bucket: &bucket, key: key.as_deref(), facts: &facts };
        self.judge(&guard, question, version.as_deref()).await?;
        let makes = matches!(operation.as_str(), "PutObject" | "CopyObject" | "CreateMultipartUpload");
        if makes {
            self.judge_extras(&guard, &question, &extras::of(cx.headers())).await?;
        }
        if facts::bypasses(cx.headers()) {
            let action = Action::bypass();
            let question = Question { caller: &caller, action, bucket: &bucket, key: key.as_deref(), facts: &facts };
            self.judge(&guard, question, None).await?;
        }
        if let Some(from) = cx.headers().get(header::X_AMZ_COPY_SOURCE).and_then(|from| from.to_str().ok()) {
            let mut of_source = facts.clone();
            if let Some(expected) =
                cx.headers().get(header::X_AMZ_SOURCE_EXPECTED_BUCKET_OWNER).and_then(|id| id.to_str().ok())
            {
                of_source.put("hodei:source-owner", expected);
            }
            let takes_tags = operation == "CopyObject" && facts::copies_tags(cx.headers());
            self.copy(&caller, &of_source, from, takes_tags.then_some((&guard, &question))).await?;
        }
        // An upload's end makes an object of bytes that were counted as they came.
        let is_more = matches!(operation.as_str(), "PutObject" | "CopyObject" | "UploadPart" | "UploadPartCopy");
        if is_more && self.has_quota(&guard.owner) {
            let coming = self.coming(cx.headers()).await?;
            let replaced = match (Said::of(cx.extensions_mut(), &bucket), key.as_deref()) {
                (Some(settings), Some(key)) => self.replaced(&settings, &bucket, key).await?,
                _ => Usage::default(),
            };
            if let Some(room) = self.room(&guard.owner, coming, replaced).await? {
                // Until the request ends.
                cx.extensions_mut().insert(Arc::new(room));
            }
        }
        if makes {
            let stamp = self.stamp(&guard, &caller, wanted(cx.headers(), &self.keyring)?)?;
            cx.extensions_mut().insert(stamp);
        }
        Ok(())
    }

    async fn head_bucket(&self, request: &mut S3Request<HeadBucketInput>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn list_objects(&self, request: &mut S3Request<ListObjectsInput>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn list_objects_v2(&self, request: &mut S3Request<ListObjectsV2Input>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn head_object(&self, request: &mut S3Request<HeadObjectInput>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn get_object(&self, request: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        names::strip(&mut request.input.bucket);
        Ok(())
    }

    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let (caller, Waiting { guard, facts }) = waiting(request)?;
        let bucket = request.input.bucket.clone();
        let bypasses = facts::bypasses(&request.headers);
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for object in std::mem::take(&mut request.input.delete.objects) {
            let ask =
                |action| Question { caller: &caller, action, bucket: &bucket, key: Some(&object.key), facts: &facts };
            let version = object.version_id.as_deref();
            let mut judged = self.judge(&guard, ask(Action::of("DeleteObject", version.is_some())), version).await;
            if bypasses && judged.is_ok() {
                judged = self.judge(&guard, ask(Action::bypass()), version).await;
            }
            if judged.is_ok() { gone.push(object) } else { kept.push(object) }
        }
        request.input.delete.objects = gone;
        request.extensions.insert(Kept(kept));
        Ok(())
    }

    async fn put_object_tagging(&self, request: &mut S3Request<PutObjectTaggingInput>) -> S3Result<()> {
        let (caller, Waiting { guard, facts }) = waiting(request)?;
        let mut facts = Facts::clone(&facts);
        let input = &request.input;
        let tags = input
            .tagging
            .tag_set
            .iter()
            .filter_map(|tag| Some((tag.key.as_deref()?, tag.value.as_deref().unwrap_or(""))));
        facts::tags(&mut facts, tags);
        let action = Action::of("PutObjectTagging", input.version_id.is_some());
        let question =
            Question { caller: &caller, action, bucket: &input.bucket, key: Some(&input.key), facts: &facts };
        self.judge(&guard, question, input.version_id.as_deref()).await
    }
}

/// Nothing of it is there only where nobody was asked before: that is refused.
fn waiting<T>(request: &S3Request<T>) -> S3Result<(Caller, Waiting)> {
    let found = request.extensions.get::<Caller>().cloned().zip(request.extensions.get::<Waiting>().cloned());
    found.ok_or_else(denied)
}
