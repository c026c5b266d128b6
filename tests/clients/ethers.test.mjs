// ethers v6: batches by default; transfer, deploy, call, logs, filters, precise errors.
// Usage: node ethers.test.mjs RPC_URL PRIVATE_KEY SHELF.json
import { readFileSync } from 'node:fs'
import {
  ContractFactory, JsonRpcProvider, Transaction, Wallet, id, isCallException, isError, parseEther, zeroPadValue,
} from 'ethers'
import { assert, check, rpc } from './check.mjs'

const [url, key, shelfPath] = process.argv.slice(2)
const { abi, bytecode } = JSON.parse(readFileSync(shelfPath))
const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 50, cacheTimeout: -1 })
const wallet = new Wallet(key, provider)
const on = (name, work) => check('ethers', name, work)

await on('a batch of questions', async () => {
  const [network, height, balance, fees, nonce] = await Promise.all([
    provider.getNetwork(), provider.getBlockNumber(), provider.getBalance(wallet.address), provider.getFeeData(),
    wallet.getNonce('pending'),
  ])
  assert.ok(network.chainId >= 1n << 31n)
  assert.ok(height >= 1 && balance > 0n && fees.maxFeePerGas > 0n && fees.gasPrice > 0n && nonce >= 0)
})

await on('transfer', async () => {
  const to = Wallet.createRandom().address
  const sent = await wallet.sendTransaction({ to, value: parseEther('0.25') })
  const receipt = await sent.wait(1, 20_000)
  assert.equal(receipt.status, 1)
  assert.equal(receipt.fee, receipt.gasUsed * receipt.gasPrice)
  assert.equal(await provider.getBalance(to), parseEther('0.25'))
  // A send leaves the log of EIP-7708, and is found by its payee.
  const topics = [id('Transfer(address,address,uint256)'), null, zeroPadValue(to, 32)]
  const [block, coin] = [receipt.blockNumber, '0xfffffffffffffffffffffffffffffffffffffffe']
  const found = await provider.getLogs({ address: coin, topics, fromBlock: block, toBlock: block })
  assert.deepEqual(found.map((log) => [log.transactionHash, BigInt(log.data)]), [[sent.hash, parseEther('0.25')]])
  assert.equal(receipt.logs.length, 1)
})

await on('a legacy transaction signed offline, sent raw', async () => {
  const chainId = Number((await rpc(url, 'eth_chainId')).result)
  const tx = Transaction.from({
    type: 0, chainId, to: wallet.address, value: 1n, gasLimit: 21000n,
    gasPrice: BigInt((await rpc(url, 'eth_gasPrice')).result),
    nonce: Number((await rpc(url, 'eth_getTransactionCount', [wallet.address, 'pending'])).result),
  })
  tx.signature = wallet.signingKey.sign(tx.unsignedHash)
  assert.equal((await rpc(url, 'eth_sendRawTransaction', [tx.serialized])).result, tx.hash)
  assert.equal((await provider.waitForTransaction(tx.hash, 1, 20_000)).type, 0)
})

let shelf
await on('deploy, call, query events', async () => {
  shelf = await new ContractFactory(abi, bytecode, wallet).deploy(5n)
  await shelf.waitForDeployment()
  assert.equal(await shelf.value(), 5n)
  const receipt = await (await shelf.set(77n)).wait()
  const events = await shelf.queryFilter(shelf.filters.Changed(wallet.address), receipt.blockNumber)
  assert.deepEqual(events.map((event) => event.args.value), [77n])
})

await on('a polling filter sees what comes after it', async () => {
  const filter = (await rpc(url, 'eth_newFilter', [{ address: await shelf.getAddress() }])).result
  assert.match(filter, /^0x/)
  await (await shelf.set(78n)).wait()
  const changes = (await rpc(url, 'eth_getFilterChanges', [filter])).result
  assert.equal(BigInt(changes[0].data), 78n)
  assert.deepEqual((await rpc(url, 'eth_getFilterChanges', [filter])).result, [])
  assert.equal((await rpc(url, 'eth_uninstallFilter', [filter])).result, true)
  assert.ok((await rpc(url, 'eth_getFilterChanges', [filter])).error)
})

await on('errors that ethers understands', async () => {
  const revert = await shelf.set.staticCall(5000n).then(() => null, (error) => error)
  assert.ok(isCallException(revert))
  assert.deepEqual([...revert.revert.args], [5000n, 1000n])
  const stale = await wallet.sendTransaction({ to: wallet.address, nonce: 0 }).then(() => null, (error) => error)
  assert.ok(isError(stale, 'NONCE_EXPIRED'), stale?.message)
  const poor = new Wallet(Wallet.createRandom().privateKey, provider)
  const broke = await poor
    .sendTransaction({ to: wallet.address, value: 1n, gasLimit: 21000n }).then(() => null, (error) => error)
  assert.ok(isError(broke, 'INSUFFICIENT_FUNDS'), broke?.message)
})

await on('what is not known is null, what is not offered says so', async () => {
  const nothing = '0x' + '11'.repeat(32)
  assert.equal((await rpc(url, 'eth_getTransactionReceipt', [nothing])).result, null)
  assert.equal((await rpc(url, 'eth_getTransactionByHash', [nothing])).result, null)
  assert.equal((await rpc(url, 'eth_getBlockByHash', [nothing, false])).result, null)
  assert.equal((await rpc(url, 'eth_getProof', [wallet.address, [], 'latest'])).error.code, -32601)
  assert.equal((await rpc(url, 'eth_sendRawTransaction', ['0x02ff'])).error.code, -32000)
  assert.equal((await rpc(url, 'eth_getBalance', ['0x12'])).error.code, -32602)
  assert.equal((await rpc(url, 'eth_subscribe', ['newHeads'])).error.code, -32601, 'subscriptions want a WebSocket')
  const long = (await rpc(url, 'eth_feeHistory', ['0x400', 'latest', []])).result
  assert.ok(long.gasUsedRatio.length > 0 && long.baseFeePerGas.length === long.gasUsedRatio.length + 1)
})
provider.destroy()
process.exit(0)
