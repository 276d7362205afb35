// Runs on Linux what Electron's build tools run on a Mac to sign an app:
//
//   node sign.js osx-sign|electron-builder APP IDENTITY ENTITLEMENTS TEMP
//
// The tools come from the folder in ELECTRON_TOOLS, unmodified. Only what they
// ask of the platform is answered for a Mac, and electron-builder's absolute
// path of `security` leads to the first one in PATH.

'use strict';

const childProcess = require('child_process');
const fs = require('fs');
const Module = require('module');
const os = require('os');
const path = require('path');

Object.defineProperty(process, 'platform', {value: 'darwin'});
os.release = () => '23.0.0';
for (const name of ['execFile', 'spawn']) {
  const original = childProcess[name];
  childProcess[name] = (file, ...rest) =>
      original(file.replace(/^\/usr\/bin\/(security|codesign)$/, '$1'), ...rest);
}
const load = Module.createRequire(
    path.join(process.env.ELECTRON_TOOLS, 'package.json'));

const [, , tool, app, identity, entitlements, temp] = process.argv;

function options() {
  return {
    app,
    platform: 'darwin',
    preAutoEntitlements: false,
    preEmbedProvisioningProfile: false,
    // No timestamp authority is near.
    optionsForFile: () =>
        ({entitlements, hardenedRuntime: true, timestamp: 'none'}),
  };
}

async function osxSign() {
  await load('@electron/osx-sign').signAsync({...options(), identity});
}

async function electronBuilder() {
  const macCodeSign = load('app-builder-lib/out/codeSign/macCodeSign');
  const {TmpDir} = load('temp-file');
  // A certificate file, as CSC_LINK names one: its key is not used here.
  const certificate = path.join(temp, 'certificate.p12');
  fs.writeFileSync(certificate, 'not read');
  const tmpDir = new TmpDir('codeseal');
  const {keychainFile} = await macCodeSign.createKeychain({
    tmpDir,
    cscLink: certificate,
    cscKeyPassword: 'password',
    currentDir: temp,
  });
  const found = await macCodeSign.findIdentity(
      'Developer ID Application', identity, keychainFile);
  if (found == null) throw new Error('electron-builder finds no identity');
  console.log(`found ${found.hash} ${found.name}`);
  await macCodeSign.sign({
    ...options(),
    identity: found.hash || found.name,
    identityValidation: false,
    keychain: keychainFile,
  });
  await macCodeSign.removeKeychain(keychainFile);
  await tmpDir.cleanup();
}

(tool === 'osx-sign' ? osxSign() : electronBuilder()).then(
    () => console.log('signed'),
    (fault) => {
      console.error(fault);
      process.exit(1);
    });
