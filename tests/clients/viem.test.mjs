// viem: transfer, sync send, deploy, call, logs, subscription, module and its undoing.
// Usage: node viem.test.mjs RPC_URL PRIVATE_KEY SHELF.json
import { readFileSync } from 'node:fs'
import {
  createPublicClient, createWalletClient, defineChain, encodeFunctionData, http, parseEther, parseEventLogs, webSocket,
} from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import { assert, check, rpc, within } from './check.mjs'

const [url, key, shelfPath] = process.argv.slice(2)
const { abi, bytecode } = JSON.parse(readFileSync(shelfPath))
const id = Number((await rpc(url, 'eth_chainId')).result)
const chain = defineChain({
  id, name: 'hodei', nativeCurrency: { name: 'hod', symbol: 'hod', decimals: 18 }, rpcUrls: { default: { http: [url] } },
})
const account = privateKeyToAccount(key)
const reader = createPublicClient({ chain, transport: http(url, { batch: true }), pollingInterval: 50 })
const wallet = createWalletClient({ chain, account, transport: http(url) })
const mined = async (hash) => {
  const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 20_000 })
  return receipt
}
const salt = (n) => `0x${n.toString(16).padStart(64, '0')}`
const on = (name, work) => check('viem', name, work)

await on('transfer with fees chosen by viem', async () => {
  const to = privateKeyToAccount(generatePrivateKey()).address
  const hash = await wallet.sendTransaction({ to, value: parseEther('0.5') })
  const receipt = await mined(hash)
  assert.equal(receipt.status, 'success')
  assert.equal(receipt.type, 'eip1559')
  assert.equal(receipt.gasUsed, 21000n)
  assert.equal(receipt.from.toLowerCase(), account.address.toLowerCase())
  assert.equal(await reader.getBalance({ address: to }), parseEther('0.5'))
  const tx = await reader.getTransaction({ hash })
  assert.equal(tx.value, parseEther('0.5'))
  assert.equal(tx.blockNumber, receipt.blockNumber)
  assert.equal(tx.gasPrice, receipt.effectiveGasPrice)
  const block = await reader.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true })
  assert.equal(block.transactions[receipt.transactionIndex].hash, hash)
  assert.equal(block.hash, receipt.blockHash)
})

await on('sendRawTransactionSync answers with the receipt', async () => {
  const request = await wallet.prepareTransactionRequest({ to: account.address, value: 1n })
  const raw = await wallet.signTransaction(request)
  const answer = await rpc(url, 'eth_sendRawTransactionSync', [raw])
  assert.equal(answer.error, undefined, JSON.stringify(answer.error))
  assert.equal(answer.result.status, '0x1')
  const again = await rpc(url, 'eth_sendRawTransaction', [raw])
  assert.match(again.error.message, /already known|nonce too low/)
})

let shelf
await on('deploy', async () => {
  const receipt = await mined(await wallet.deployContract({ abi, bytecode, args: [7n] }))
  assert.equal(receipt.status, 'success')
  shelf = receipt.contractAddress
  assert.ok((await reader.getCode({ address: shelf })).length > 100)
  assert.equal(await reader.readContract({ address: shelf, abi, functionName: 'value' }), 7n)
  assert.equal(BigInt(await reader.getStorageAt({ address: shelf, slot: '0x0' })), 7n)
})

await on('call, log and getLogs', async () => {
  const { request } = await reader.simulateContract({ account, address: shelf, abi, functionName: 'set', args: [41n] })
  const receipt = await mined(await wallet.writeContract(request))
  const [event] = parseEventLogs({ abi, logs: receipt.logs })
  assert.equal(event.args.value, 41n)
  const found = await reader.getContractEvents({
    address: shelf, abi, eventName: 'Changed', args: { who: account.address },
    fromBlock: receipt.blockNumber, toBlock: receipt.blockNumber,
  })
  assert.equal(found.length, 1)
  assert.equal(found[0].transactionHash, receipt.transactionHash)
})

await on('a revert carries its typed error', async () => {
  const attempt = reader.simulateContract({ account, address: shelf, abi, functionName: 'set', args: [5000n] })
  const error = await attempt.then(() => null, (error) => error)
  const cause = error.walk((inner) => inner.name === 'ContractFunctionRevertedError')
  assert.equal(cause.data.errorName, 'TooLarge')
  assert.deepEqual(cause.data.args, [5000n, 1000n])
})

await on('a contract calls a native module', async () => {
  const receipt = await mined(await wallet.writeContract({ address: shelf, abi, functionName: 'make', args: [salt(1)] }))
  assert.equal(receipt.status, 'success')
  assert.equal(receipt.logs[0].address, '0x0000000000000000000000000000000000000de3')
  assert.equal(await reader.readContract({ address: shelf, abi, functionName: 'owned' }), 1n)
})

await on('a revert around that call undoes what the module wrote', async () => {
  const inside = await mined(
    await wallet.writeContract({ address: shelf, abi, functionName: 'makeAndRecover', args: [salt(2), 9n] }),
  )
  assert.equal(inside.status, 'success')
  assert.equal(inside.logs.length, 1, 'the module log went with the revert')
  assert.equal(await reader.readContract({ address: shelf, abi, functionName: 'owned' }), 1n)
  assert.equal(await reader.readContract({ address: shelf, abi, functionName: 'value' }), 9n)
  const whole = await mined(await wallet.sendTransaction({
    to: shelf, gas: 1_000_000n, data: encodeFunctionData({ abi, functionName: 'makeAndFail', args: [salt(3)] }),
  }))
  assert.equal(whole.status, 'reverted')
  assert.equal(whole.logs.length, 0)
  assert.equal(await reader.readContract({ address: shelf, abi, functionName: 'owned' }), 1n)
})

await on('subscriptions: heads, logs, pending', async () => {
  const live = createPublicClient({ chain, transport: webSocket(url.replace(/^http/, 'ws')) })
  const head = new Promise((resolve, reject) => {
    live.watchBlocks({ onBlock: resolve, onError: reject })
  })
  const log = new Promise((resolve, reject) => {
    live.watchContractEvent({ address: shelf, abi, eventName: 'Changed', onLogs: resolve, onError: reject })
  })
  // Others send too: the first that is told need not be ours.
  const told = new Set()
  let look = () => {}
  live.watchPendingTransactions({ onTransactions: (hashes) => { hashes.forEach((hash) => told.add(hash)); look() }, onError: () => {} })
  await new Promise((resolve) => setTimeout(resolve, 300))
  const hash = await wallet.writeContract({ address: shelf, abi, functionName: 'set', args: [13n] })
  assert.equal(typeof (await within(10_000, head, 'head')).number, 'bigint')
  assert.equal((await within(10_000, log, 'log'))[0].args.value, 13n)
  await within(10_000, new Promise((resolve) => { look = () => told.has(hash) && resolve(); look() }), 'pending transaction')
  const socket = await live.transport.getRpcClient()
  socket.close()
})
process.exit(0)
