//! Delete objects and versions, one or many at once.

use super::{access::Kept, fault::fault, objects::Objects, principal::Caller, refusal::is_xml, time::millis, version};
use hodei_sdk::{
    Fault,
    change::{Done, Removal, Versioning},
    condition::{Condition, Tag},
};
use hyper::http::Extensions;
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
        ETagCondition, Error, ObjectIdentifier, Timestamp,
    },
    s3_error,
};

/// Keys of one DeleteObjects, as at S3.
const DELETE_MAX: usize = 1000;

/// An etag of a condition on a write.
pub(super) fn tag(condition: &ETagCondition) -> Tag {
    match condition {
        ETagCondition::Any => Tag::Any,
        ETagCondition::ETag(tag) => Tag::Is(tag.value().to_owned()),
    }
}

fn condition(matches: Option<Tag>, modified: Option<&Timestamp>, size: Option<i64>) -> S3Result<Condition> {
    let size_bytes = size
        .map(|size| u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "A size is not negative, found {size}")))
        .transpose()?;
    Ok(Condition { matches, differs: None, modified_secs: modified.map(|time| millis(time) / 1000), size_bytes })
}

/// What was done; deleting what is not there succeeds, as at S3.
fn outcome(done: Result<Done, Fault>) -> Result<Option<Done>, Fault> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Fault::NoObject { .. } | Fault::NoVersion { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn deleted(asked: &ObjectIdentifier, done: Option<&Done>) -> DeletedObject {
    let marker = done.filter(|done| done.marker);
    DeletedObject {
        key: Some(asked.key.clone()),
        version_id: asked.version_id.clone(),
        delete_marker: marker.map(|_| true),
        delete_marker_version_id: marker.map(|done| done.version.to_string()),
    }
}

impl Objects {
    pub(super) async fn delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let owner = caller(&request.extensions);
        let input = request.input;
        let matches = input.if_match.as_ref().map(tag);
        let removal = Removal {
            version: input.version_id.as_deref().map(version::parse).transpose()?,
            condition: condition(matches, input.if_match_last_modified_time.as_ref(), input.if_match_size)?,
            bypass: input.bypass_governance_retention == Some(true),
            owner,
        };
        let done = outcome(self.cloud.remove_as(&input.bucket, &input.key, removal).await).map_err(fault)?;
        let told = done.as_ref().filter(|done| done.versioning != Versioning::Off || input.version_id.is_some());
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: told.filter(|done| done.marker).map(|_| true),
            version_id: told.map(|done| done.version.to_string()).or(input.version_id),
            ..DeleteObjectOutput::default()
        }))
    }

    pub(super) async fn delete_many(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let owner = caller(&request.extensions);
        let kept = request.extensions.get::<Kept>().cloned().unwrap_or_default();
        let input = request.input;
        if !(1..=DELETE_MAX).contains(&(input.delete.objects.len() + kept.0.len())) {
            return Err(s3_error!(MalformedXML, "From 1 to 1000 objects can be deleted at once."));
        }
        if input.delete.objects.iter().chain(&kept.0).any(|object| !object.key.chars().all(is_xml)) {
            return Err(s3_error!(
                MalformedXML,
                "XML 1.0 has no place for a character of a key: nothing was deleted, delete that key by DeleteObject."
            ));
        }
        self.must_exist(&input.bucket).await?;
        let bypass = input.bypass_governance_retention == Some(true);
        let removals = input.delete.objects.iter().map(|object| {
            let (bucket, owner) = (&input.bucket, owner.clone());
            async move {
                let matches = object.e_tag.as_ref().map(|tag| self::tag(&any_or(tag)));
                let version = object.version_id.as_deref().map(version::parse).transpose()?;
                let condition = condition(matches, object.last_modified_time.as_ref(), object.size)?;
                let removal = Removal { version, condition, bypass, owner };
                outcome(self.cloud.remove_as(bucket, &object.key, removal).await).map_err(fault)
            }
        });
        // All at once: their changes of the index are then swapped in together.
        let outcomes = futures::future::join_all(removals).await;
        let (mut gone, mut errors) = (Vec::new(), Vec::new());
        for (object, outcome) in input.delete.objects.into_iter().zip(outcomes) {
            match outcome {
                Ok(done) => gone.push(deleted(&object, done.as_ref())),
                Err(error) => errors.push(Error {
                    key: Some(object.key),
                    version_id: object.version_id,
                    code: Some(error.code().as_str().into()),
                    message: error.message().map(Into::into),
                }),
            }
        }
        errors.extend(kept.0.into_iter().map(|object| Error {
            key: Some(object.key),
            version_id: object.version_id,
            code: Some("AccessDenied".into()),
            message: Some("Access Denied".into()),
        }));
        let gone = if input.delete.quiet == Some(true) { Vec::new() } else { gone };
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(gone),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }
}

/// Whose a delete marker is: who asks for it.
fn caller(extensions: &Extensions) -> Option<String> {
    extensions.get::<Caller>()?.id().map(str::to_owned)
}

/// A body's `*` is any etag, as a header's is.
fn any_or(tag: &ETag) -> ETagCondition {
    if tag.value() == "*" { ETagCondition::Any } else { ETagCondition::ETag(tag.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_sdk::index::Version;

    #[test]
    fn what_was_deleted_is_told_with_its_versions() {
        let asked = |version: Option<&str>| ObjectIdentifier {
            key: "k".into(),
            version_id: version.map(Into::into),
            e_tag: None,
            last_modified_time: None,
            size: None,
        };
        let id = Version::Id([1; 16]);
        let marker = Done { version: id, marker: true, versioning: Versioning::Enabled };
        let told = deleted(&asked(None), Some(&marker));
        assert_eq!(
            (told.delete_marker, told.delete_marker_version_id, told.version_id),
            (Some(true), Some(id.to_string()), None)
        );
        let told = deleted(&asked(Some("null")), Some(&Done::default()));
        assert_eq!(
            (told.delete_marker, told.delete_marker_version_id, told.version_id),
            (None, None, Some("null".into()))
        );
        let gone = Fault::NoVersion { bucket: "b".into(), key: "k".into(), version: id };
        assert_eq!(outcome(Err(gone)).unwrap(), None);
        assert!(condition(None, None, Some(-1)).is_err());
    }
}
