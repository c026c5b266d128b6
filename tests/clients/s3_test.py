"""Amazon's own Python client against the S3 door: put, ranges, listing, multipart, checksums, refusals.

Usage: s3_test.py ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY [ANOTHER_USERS_KEY_ID ITS_SECRET]
"""
import json
import os
import sys
import time

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, key_id, secret = sys.argv[1:4]


def client(secret, key_id=key_id, **config):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config)
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key_id, aws_secret_access_key=secret,
                        region_name="us-east-1", config=config)


def code(call, **arguments):
    """The error code a call fails with; None if it succeeds."""
    try:
        call(**arguments)
        return None
    except ClientError as error:
        return error.response["Error"]["Code"]


failed = 0


def check(name, holds):
    global failed
    failed += not holds
    print(("ok" if holds else "not ok"), "s3", name, flush=True)


s3 = client(secret)
bucket = "clients-" + os.urandom(4).hex()
check("create bucket", s3.create_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200)
check("bucket is listed", bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]])
check("every bucket tells when it was made, whatever made it",
      all(one["CreationDate"].year > 2020 for one in s3.list_buckets()["Buckets"]))

body = os.urandom(300_000)
put = s3.put_object(Bucket=bucket, Key="dir/a.bin", Body=body, Metadata={"x": "y"}, ContentType="image/png")
got = s3.get_object(Bucket=bucket, Key="dir/a.bin")
check("object comes back", got["Body"].read() == body and got["ETag"] == put["ETag"])
check("type and metadata come back", got["ContentType"] == "image/png" and got["Metadata"] == {"x": "y"})
got = s3.get_object(Bucket=bucket, Key="dir/a.bin", Range="bytes=100-199")
check("range", got["Body"].read() == body[100:200] and got["ContentRange"] == "bytes 100-199/300000")
got = s3.get_object(Bucket=bucket, Key="dir/a.bin", Range="bytes=-10")
check("suffix range", got["Body"].read() == body[-10:])
check("range past the end", code(s3.get_object, Bucket=bucket, Key="dir/a.bin", Range="bytes=300000-") == "InvalidRange")
check("head", s3.head_object(Bucket=bucket, Key="dir/a.bin")["ContentLength"] == 300_000)

s3.put_object(Bucket=bucket, Key="empty", Body=b"")
check("empty object", s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b"")
page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
check("list with delimiter", [one["Key"] for one in page["Contents"]] == ["empty"]
      and [one["Prefix"] for one in page["CommonPrefixes"]] == ["dir/"])
page = s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
check("list in pages", page["IsTruncated"] and s3.list_objects_v2(
    Bucket=bucket, ContinuationToken=page["NextContinuationToken"])["Contents"][0]["Key"] == "empty")

upload = s3.create_multipart_upload(Bucket=bucket, Key="multi")["UploadId"]
parts = [os.urandom(5 << 20), b"tail"]
tags = [s3.upload_part(Bucket=bucket, Key="multi", UploadId=upload, PartNumber=at + 1, Body=part)["ETag"]
        for at, part in enumerate(parts)]
done = s3.complete_multipart_upload(Bucket=bucket, Key="multi", UploadId=upload, MultipartUpload={
    "Parts": [{"PartNumber": at + 1, "ETag": tag} for at, tag in enumerate(tags)]})
check("multipart", s3.get_object(Bucket=bucket, Key="multi")["Body"].read() == b"".join(parts)
      and done["ETag"].endswith('-2"'))
check("completed upload is gone", code(s3.abort_multipart_upload, Bucket=bucket, Key="multi", UploadId=upload) == "NoSuchUpload")

wrong = "AAAAAAAAAAAAAAAAAAAAAA=="
check("wrong MD5 is refused", code(s3.put_object, Bucket=bucket, Key="bad", Body=b"x", ContentMD5=wrong) == "BadDigest")
check("and leaves nothing", code(s3.get_object, Bucket=bucket, Key="bad") == "NoSuchKey")
check("what is not built says so", code(s3.get_bucket_replication, Bucket=bucket) == "NotImplemented")
check("a wrong secret is refused", code(client("no" + secret).list_buckets) == "SignatureDoesNotMatch")

# What is set along with an object has permissions of its own.
kept = bucket + "-kept"
s3.create_bucket(Bucket=kept, ObjectLockEnabledForBucket=True)
nobody = client(secret, signature_version=UNSIGNED)
other = client(sys.argv[5], sys.argv[4]) if len(sys.argv) > 5 else None
NAMES = {"list": "s3:PutObjectAcl", "tags": "s3:PutObjectTagging", "retention": "s3:PutObjectRetention",
         "hold": "s3:PutObjectLegalHold"}
EXTRAS = {"list": {"ACL": "public-read"}, "tags": {"Tagging": "a=b"}, "hold": {"ObjectLockLegalHoldStatus": "ON"},
          "retention": {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": "2100-01-01T00:00:00Z"}}
source = {"Bucket": kept, "Key": "tagged"}


def rule(**actions):
    """Allows and denies everybody these actions."""
    s3.put_bucket_policy(Bucket=kept, Policy=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": effect, "Principal": "*", "Action": names, "Resource": f"arn:aws:s3:::{kept}/*"}
        for effect, names in actions.items()]}))


def refused(who, extra):
    """Whether none of the ways to make an object takes it from this one; says what was answered instead."""
    told = [code(who.put_object, Bucket=kept, Key="k", Body=b"x", **EXTRAS[extra]),
            code(who.create_multipart_upload, Bucket=kept, Key="k", **EXTRAS[extra]),
            code(who.copy_object, Bucket=kept, Key="k", CopySource=source, TaggingDirective="REPLACE", **EXTRAS[extra])]
    if told == ["AccessDenied"] * 3:
        return True
    print("answered:", told, flush=True)
    return False


s3.put_object(Bucket=kept, Key="tagged", Body=b"x", Tagging="secret=1")
rule(Allow=["s3:PutObject", "s3:GetObject"])
check("who may put may put", code(nobody.put_object, Bucket=kept, Key="k", Body=b"x") is None)
for extra in EXTRAS:
    check(f"but an unsigned put sets no {extra}", refused(nobody, extra))
check("an unsigned copy takes no tags along", code(nobody.copy_object, Bucket=kept, Key="k", CopySource=source) == "AccessDenied")
check("and is made without", code(nobody.copy_object, Bucket=kept, Key="k", CopySource=source, TaggingDirective="REPLACE") is None)
if other:
    for extra in ("tags", "retention", "hold"):
        check(f"another user's put sets no {extra}", refused(other, extra))
    check("but the list of his own object", code(other.put_object, Bucket=kept, Key="k", Body=b"x", ACL="public-read") is None)
    check("nor does a copy of his", code(other.copy_object, Bucket=kept, Key="k", CopySource=source) == "AccessDenied")
for who, name in ((s3, "the owner's"), (other, "another user's"), (nobody, "an unsigned")):
    for extra in EXTRAS if who else ():
        rule(Allow="s3:*", Deny=NAMES[extra])
        check(f"{name} put where its {extra} is denied", refused(who, extra))
rule(Allow=["s3:PutObject", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObjectTagging", "s3:PutObjectAcl", "s3:PutObjectLegalHold"])
check("an unsigned put sets what it may", code(nobody.put_object, Bucket=kept, Key="k", Body=b"x", **EXTRAS["list"],
                                              **EXTRAS["tags"], **EXTRAS["hold"]) is None and refused(nobody, "retention"))
check("and a copy takes the tags it may", code(nobody.copy_object, Bucket=kept, Key="copy", CopySource=source) is None
      and s3.get_object_tagging(Bucket=kept, Key="copy")["TagSet"] == [{"Key": "secret", "Value": "1"}])
s3.delete_bucket_policy(Bucket=kept)
check("the owner's put sets what it will", code(s3.put_object, Bucket=kept, Key="k", Body=b"x", **EXTRAS["list"],
                                               **EXTRAS["tags"], **EXTRAS["hold"]) is None)
for one in s3.list_object_versions(Bucket=kept)["Versions"]:
    which = {"Bucket": kept, "Key": one["Key"], "VersionId": one["VersionId"]}
    s3.put_object_legal_hold(**which, LegalHold={"Status": "OFF"})
    s3.delete_object(**which)
check("and nothing is locked that the owner did not lock", code(s3.delete_bucket, Bucket=kept) is None)

check("a bucket with objects is kept", code(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty")
s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("multi", "empty", "dir/a.bin")]})
check("delete", s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0)
check("delete bucket", code(s3.delete_bucket, Bucket=bucket) is None)
check("it is gone at once", code(s3.head_bucket, Bucket=bucket) == "404"
      and bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]
      and code(s3.put_object, Bucket=bucket, Key="late", Body=b"x") == "NoSuchBucket")


def again():
    """The name is free once the providers have proven what they owed for the old deals."""
    for _ in range(60):
        told = code(s3.create_bucket, Bucket=bucket)
        if told != "OperationAborted":
            return told is None
        time.sleep(1)


check("a bucket of the same name", again())
s3.put_object(Bucket=bucket, Key="new", Body=b"new")
check("which is new", [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["new"])
s3.delete_object(Bucket=bucket, Key="new")
check("and goes too", code(s3.delete_bucket, Bucket=bucket) is None)
sys.exit(failed > 0)
