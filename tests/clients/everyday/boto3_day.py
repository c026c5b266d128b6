"""A day with Amazon's Python client."""
import os
import pathlib
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

bucket, endpoint, ca = (os.environ[name] for name in ("BUCKET", "ENDPOINT", "CA"))
s3 = boto3.client("s3", endpoint_url=endpoint, verify=ca or None,
                  config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"))
big, one = pathlib.Path("big").read_bytes(), pathlib.Path("folder/file-1").read_bytes()
parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
bad = 0


def step(work):
    global bad
    name = work.__doc__
    try:
        work()
        print(f"ok s3 boto3 over {os.environ['TRANSPORT']}: {name}", flush=True)
    except Exception as error:
        print(f"not ok s3 boto3 over {os.environ['TRANSPORT']}: {name}\n    {type(error).__name__}: {error}", flush=True)
        bad = 1


def get(key, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def same(found, wanted):
    assert found == wanted, f"{len(found)} bytes found, which are not the {len(wanted)} expected"


@step
def make():
    """make a bucket"""
    s3.create_bucket(Bucket=bucket)
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]


@step
def small():
    """put and get"""
    s3.put_object(Bucket=bucket, Key="dir/one", Body=one)
    same(get("dir/one"), one)


@step
def in_parts():
    """put and get in parts"""
    s3.upload_file("big", bucket, "big", Config=parts)
    s3.download_file(bucket, "big", "big.back", Config=parts)
    same(pathlib.Path("big.back").read_bytes(), big)
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-3"')


@step
def listing():
    """list"""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    assert [one["Key"] for page in pages for one in page["Contents"]] == ["big", "dir/one"]
    old = s3.list_objects(Bucket=bucket, Delimiter="/")
    assert [one["Key"] for one in old["Contents"]] == ["big"] and old["CommonPrefixes"] == [{"Prefix": "dir/"}]


@step
def ranges():
    """a range"""
    same(get("big", Range="bytes=5000000-6999999"), big[5000000:7000000])


@step
def copy():
    """copy, also in parts"""
    s3.copy_object(Bucket=bucket, Key="copy/two", CopySource={"Bucket": bucket, "Key": "dir/one"})
    same(get("copy/two"), one)
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copy/big", Config=parts)
    same(get("copy/big"), big)


@step
def presign():
    """a presigned link"""
    link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "dir/one"}, ExpiresIn=60)
    context = __import__("ssl").create_default_context(cafile=ca) if ca else None
    with urllib.request.urlopen(link, context=context) as answer:
        same(answer.read(), one)


@step
def folder():
    """a folder up and down"""
    files = sorted(path for path in pathlib.Path("folder").rglob("*") if path.is_file())
    for path in files:
        s3.upload_file(str(path), bucket, f"sync/{path}")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="sync/", EncodingType="url")["Contents"]
    assert len(listed) == len(files)
    for path in files:
        same(get(f"sync/{path}"), path.read_bytes())


@step
def metadata():
    """metadata"""
    s3.put_object(Bucket=bucket, Key="meta", Body=one, Metadata={"colour": "green"}, ContentType="text/x-day", CacheControl="no-store")
    head = s3.head_object(Bucket=bucket, Key="meta")
    assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"colour": "green"}, "text/x-day", "no-store")


@step
def tags():
    """tags"""
    s3.put_object_tagging(Bucket=bucket, Key="meta", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="meta")["TagSet"] == [{"Key": "a", "Value": "b"}]


@step
def versions():
    """versions"""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="v", Body=b"old")["VersionId"]
    s3.put_object(Bucket=bucket, Key="v", Body=b"new")
    s3.delete_object(Bucket=bucket, Key="v")
    same(get("v", VersionId=old), b"old")


@step
def delete():
    """delete everything"""
    listed = s3.list_object_versions(Bucket=bucket)
    objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in listed.get("Versions", []) + listed.get("DeleteMarkers", [])]
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    s3.delete_bucket(Bucket=bucket)
    assert bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]


raise SystemExit(bad)
