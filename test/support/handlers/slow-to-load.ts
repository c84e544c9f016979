await Bun.sleep(300);

export default function ran(): void {
  new BroadcastChannel("slow-to-load").postMessage("ran");
}
