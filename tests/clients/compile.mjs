// Compile examples/Shelf.sol with npm's solc.  Usage: node compile.mjs SOURCE OUT.json
import { readFileSync, writeFileSync } from 'node:fs'
import solc from 'solc'

const [source, out] = process.argv.slice(2)
const input = {
  language: 'Solidity',
  sources: { 'Shelf.sol': { content: readFileSync(source, 'utf8') } },
  settings: { optimizer: { enabled: true, runs: 200 }, outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } } },
}
const result = JSON.parse(solc.compile(JSON.stringify(input)))
for (const error of result.errors ?? []) console.error(error.formattedMessage)
const { abi, evm } = result.contracts['Shelf.sol'].Shelf
writeFileSync(out, JSON.stringify({ abi, bytecode: '0x' + evm.bytecode.object }))
