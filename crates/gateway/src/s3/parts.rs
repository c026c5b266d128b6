//! List uploads in progress, and the parts of one.

use super::{
    customer,
    digest::{self, Tells as _},
    list::{PAGE_MAX, Text, page, some},
    objects::Objects,
    time::timestamp,
    uploads::Upload,
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        ETag, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
        MultipartUpload, Owner, Part, StorageClass,
    },
    s3_error,
};
use std::collections::BTreeSet;

const STANDARD: &str = "STANDARD";

fn class(upload: &Upload) -> Option<StorageClass> {
    Some(StorageClass::from(upload.entry.class.clone().unwrap_or_else(|| STANDARD.into())))
}

fn initiator(owner: Option<Owner>) -> Option<Initiator> {
    owner.map(|owner| Initiator { display_name: owner.display_name, id: owner.id })
}

/// A page of uploads.
#[derive(Default)]
struct Page {
    uploads: Vec<(String, Upload)>,
    prefixes: BTreeSet<String>,
    /// Key and id the next page begins behind.
    next: Option<(String, String)>,
}

/// What of a bucket's uploads, in their order, is on a page behind `after`: a key, and an id among that key's.
fn cut(
    all: Vec<(String, Upload)>,
    prefix: &str,
    after: (Option<&str>, Option<&str>),
    delimiter: Option<&str>,
    max: usize,
) -> Page {
    let mut page = Page::default();
    let mut last = None;
    // Among a key's uploads, those behind the one named; where that is gone, none.
    let mut is_behind = false;
    for (id, upload) in all {
        let skips = match after {
            (Some(key), None) => upload.key.as_str() <= key,
            (Some(key), Some(_)) if upload.key.as_str() < key => true,
            (Some(key), Some(marker)) if upload.key == key => {
                let skips = !is_behind;
                is_behind |= id == marker;
                skips
            }
            _ => false,
        };
        if skips || !upload.key.starts_with(prefix) {
            continue;
        }
        let deeper = delimiter.and_then(|delimiter| {
            let at = upload.key[prefix.len()..].find(delimiter)?;
            Some(upload.key[..prefix.len() + at + delimiter.len()].to_owned())
        });
        if deeper.as_ref().is_some_and(|deeper| page.prefixes.contains(deeper)) {
            // All that is summed up lies behind the marker too.
            last = Some((upload.key, id));
            continue;
        }
        if page.uploads.len() + page.prefixes.len() >= max {
            page.next = last.filter(|_| max > 0);
            return page;
        }
        last = Some((upload.key.clone(), id.clone()));
        match deeper {
            Some(deeper) => {
                page.prefixes.insert(deeper);
            }
            None => page.uploads.push((id, upload)),
        }
    }
    page
}

impl Objects {
    pub(super) async fn parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let key = customer::key((input.sse_customer_algorithm, input.sse_customer_key, input.sse_customer_key_md5))?;
        let upload = self.uploads.with(&input.upload_id, &input.bucket, &input.key, |upload| upload.clone())?;
        if key.is_some() {
            customer::check(upload.mark.as_ref(), key.as_ref())?;
        }
        let max = input.max_parts.unwrap_or(PAGE_MAX);
        if max < 0 {
            return Err(s3_error!(InvalidArgument, "max-parts must not be negative"));
        }
        let max = max.min(PAGE_MAX);
        let marker = input.part_number_marker.unwrap_or(0);
        let behind = u32::try_from(marker).unwrap_or(0) + 1;
        let mut listed: Vec<Part> = Vec::new();
        let mut is_truncated = false;
        for (number, part) in upload.parts.range(behind..) {
            if listed.len() == max as usize {
                is_truncated = max > 0;
                break;
            }
            let mut one = Part {
                e_tag: Some(ETag::Strong(hex::encode(part.md5))),
                last_modified: Some(timestamp(part.modified_ms)),
                part_number: i32::try_from(*number).ok(),
                size: i64::try_from(part.sent.part.size_bytes).ok(),
                ..Part::default()
            };
            if let Some((digest, value)) = part.checksum.clone() {
                one.tell(digest::only(digest, Some(value)));
            }
            listed.push(one);
        }
        let owners = self.owners(&input.bucket, &request.extensions).await?;
        Ok(S3Response::new(ListPartsOutput {
            next_part_number_marker: listed.last().filter(|_| is_truncated).and_then(|part| part.part_number),
            parts: Some(listed),
            is_truncated: Some(is_truncated),
            part_number_marker: Some(marker),
            max_parts: Some(max),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: upload.checksum.map(|(digest, _)| digest::name(digest)),
            checksum_type: upload.checksum.map(|(_, composite)| digest::kind(composite)),
            initiator: initiator(owners.shown(upload.initiator.as_deref())),
            owner: owners.shown(upload.entry.owner.as_deref()),
            storage_class: class(&upload),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn list_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let owners = self.owners(&input.bucket, &request.extensions).await?;
        let (max, text) = (page(input.max_uploads)?, Text::of(input.encoding_type.as_ref())?);
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), some(input.delimiter));
        let (key, id) = (some(input.key_marker), some(input.upload_id_marker));
        let after = (key.as_deref(), id.as_deref());
        let page = cut(self.uploads.of(&input.bucket), &prefix, after, delimiter.as_deref(), max as usize);
        let keys = page.uploads.iter().map(|(_, upload)| upload.key.as_str());
        text.check(keys.chain(page.prefixes.iter().map(String::as_str)))?;
        let uploads = page.uploads.into_iter().map(|(id, upload)| MultipartUpload {
            checksum_algorithm: upload.checksum.map(|(digest, _)| digest::name(digest)),
            checksum_type: upload.checksum.map(|(_, composite)| digest::kind(composite)),
            initiated: Some(timestamp(upload.begun_ms)),
            initiator: initiator(owners.shown(upload.initiator.as_deref())),
            owner: owners.shown(upload.entry.owner.as_deref()),
            storage_class: class(&upload),
            key: Some(text.key(&upload.key)),
            upload_id: Some(id),
        });
        let (next_key, next_id) = page.next.unzip();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            common_prefixes: text.prefixes(page.prefixes.into_iter().collect()),
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.map(|key| text.key(&key)),
            next_upload_id_marker: next_id,
            key_marker: Some(key.map_or_else(String::new, |key| text.key(&key))),
            upload_id_marker: id,
            max_uploads: Some(max),
            prefix: Some(text.key(&prefix)),
            delimiter: delimiter.map(|delimiter| text.key(&delimiter)),
            encoding_type: input.encoding_type,
            bucket: Some(input.bucket),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::uploads::tests::upload, *};

    fn all() -> Vec<(String, Upload)> {
        let keys = [("a", "1"), ("a", "0"), ("dir/x", "2"), ("dir/y", "3"), ("e", "4")];
        keys.into_iter().map(|(key, id)| (id.to_string(), upload(key, 0))).collect()
    }

    #[test]
    fn pages_cover_all_uploads_once() {
        for max in 1..6 {
            let (mut after, mut seen, mut prefixes) = ((None::<String>, None::<String>), Vec::new(), Vec::new());
            loop {
                let page = cut(all(), "", (after.0.as_deref(), after.1.as_deref()), Some("/"), max);
                seen.extend(page.uploads.into_iter().map(|(id, _)| id));
                prefixes.extend(page.prefixes);
                match page.next {
                    Some((key, id)) => after = (Some(key), Some(id)),
                    None => break,
                }
            }
            assert_eq!((seen.join(" "), prefixes.join(" ")), ("1 0 4".into(), "dir/".into()), "{max}");
        }
        let page = cut(all(), "dir/", (None, None), None, 10);
        assert_eq!(page.uploads.len(), 2);
        assert_eq!(cut(all(), "", (Some("a"), None), None, 10).uploads.len(), 3);
    }
}
