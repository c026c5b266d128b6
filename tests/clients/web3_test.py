"""web3.py: transfer, deploy, call, logs, fee history.

Usage: web3_test.py RPC_URL PRIVATE_KEY SHELF.json
"""

import json
import sys

from web3 import Web3
from web3.exceptions import ContractCustomError

url, key, shelf_path = sys.argv[1:4]
w3 = Web3(Web3.HTTPProvider(url))
account = w3.eth.account.from_key(key)
artifact = json.load(open(shelf_path))


def check(name, holds=True):
    print(f"{'ok  ' if holds else 'FAIL'} web3.py: {name}")
    assert holds, name


def send(transaction):
    transaction.setdefault("from", account.address)
    transaction["nonce"] = w3.eth.get_transaction_count(account.address, "pending")
    transaction["chainId"] = w3.eth.chain_id
    if "gas" not in transaction:
        transaction["gas"] = w3.eth.estimate_gas(transaction)
    if "maxFeePerGas" not in transaction:
        tip = w3.eth.max_priority_fee
        transaction["maxPriorityFeePerGas"] = tip
        transaction["maxFeePerGas"] = 2 * w3.eth.get_block("latest")["baseFeePerGas"] + tip
    signed = account.sign_transaction(transaction)
    digest = w3.eth.send_raw_transaction(signed.raw_transaction)
    return w3.eth.wait_for_transaction_receipt(digest, timeout=20, poll_latency=0.05)


check("client version", w3.client_version.startswith("hodei/"))
history = w3.eth.fee_history(4, "latest", [10.0, 90.0])
count = len(history["gasUsedRatio"])
check("fee history", len(history["baseFeePerGas"]) == count + 1 and len(history["reward"]) == count)
check("block", len(w3.eth.get_block("latest")["extraData"]) <= 32)

to = w3.eth.account.create().address
receipt = send({"to": to, "value": w3.to_wei(1, "ether") // 8})
check("transfer", receipt["status"] == 1 and w3.eth.get_balance(to) == w3.to_wei(1, "ether") // 8)
check("balance before", w3.eth.get_balance(to, receipt["blockNumber"] - 1) == 0)

factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
receipt = send(factory.constructor(3).build_transaction({"from": account.address, "gas": 2_000_000}))
shelf = w3.eth.contract(address=receipt["contractAddress"], abi=artifact["abi"])
check("deploy and call", shelf.functions.value().call() == 3)
check("code before", w3.eth.get_code(shelf.address, receipt["blockNumber"] - 1) == b"")

receipt = send(shelf.functions.set(99).build_transaction({"from": account.address, "gas": 200_000}))
events = shelf.events.Changed().get_logs(from_block=receipt["blockNumber"], to_block=receipt["blockNumber"])
before, after = receipt["blockNumber"] - 1, receipt["blockNumber"]
values = [shelf.functions.value().call(block_identifier=at) for at in (before, after, "latest")]
check("call at an older block", values == [3, 99, 99])
check("logs", [event["args"]["value"] for event in events] == [99])
check("receipts of a block", w3.eth.get_block_receipts(receipt["blockNumber"])[receipt["transactionIndex"]]["transactionHash"] == receipt["transactionHash"])

try:
    shelf.functions.set(5000).call()
    check("revert", False)
except ContractCustomError as error:
    check("revert", "5000" in str(error.data) or hex(5000)[2:] in str(error.data))
