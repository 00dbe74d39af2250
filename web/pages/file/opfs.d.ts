// What workers have of the browser's own disk, which TypeScript knows of in its library for workers only.

interface FileSystemSyncAccessHandle {
  getSize(): number;
  read(into: Uint8Array, o?: { at?: number }): number;
  write(bytes: Uint8Array, o?: { at?: number }): number;
  flush(): void;
  close(): void;
}

interface FileSystemFileHandle {
  createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle>;
}
