using System.CommandLine;
using System.Reflection;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Runtime;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache devices`: the backends that work on this machine, and why the others do not.</summary>
internal static class DevicesCommand
{
    internal static Command Create(Terminal terminal)
    {
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("devices", "List the backends found on this machine, and for those that were not, why") { json };
        command.SetAction(call =>
        {
            var report = Probe();
            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                Show(terminal.OutView, report);
            return report.Backends.Any(backend => backend.Found) ? ExitCode.Success : ExitCode.Failure;
        });
        return command;
    }

    private static DevicesReport Probe()
    {
        string version = typeof(DevicesCommand).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "";
        string? native;
        try
        {
            native = ComputeContext.NativeVersion;
        }
        catch (KCacheException)
        {
            native = null; // the entry of each backend tells why
        }

        return new DevicesReport(version, native, [Probe(Backend.Cpu), Probe(Backend.Cuda)]);
    }

    private static BackendReport Probe(Backend backend)
    {
        string name = MachineOptions.Word(backend);
        List<DeviceReport> working = [];
        int? threads = null;
        string? problem = null;
        try
        {
            foreach (var device in DeviceInfo.List(backend))
                problem ??= Try(device, working, ref threads);
        }
        catch (KCacheException absent)
        {
            problem = DeviceChoice.Reason(absent);
        }

        return new BackendReport(name, working.Count > 0, threads, working, problem);
    }

    /// <summary>A device that is listed may still be too old for the library's kernels: a context shows it.</summary>
    private static string? Try(DeviceInfo device, List<DeviceReport> working, ref int? threads)
    {
        try
        {
            using var context = new ComputeContext(new ContextOptions { Backend = device.Backend, Device = device.Number });
            if (device.Backend == Backend.Cpu)
                threads = context.Info.Threads;
            working.Add(new DeviceReport(
                device.Number,
                device.Name,
                device.InstructionSet,
                device.MemoryBytes,
                device.FreeMemoryBytes,
                context.CuBlasVersion is > 0 and var version ? version : null,
                context.CuBlasProblem));
            return null;
        }
        catch (KCacheException unfit)
        {
            return $"device {device.Number}, {device.Name}: {unfit.Message}";
        }
    }

    private static void Show(IAnsiConsole view, DevicesReport report)
    {
        if (report.NativeVersion is null)
        {
            view.WriteLine($"kcache {report.Version}: {report.Backends[0].Problem}");
            return;
        }

        view.WriteLine($"kcache {report.Version}, native library {report.NativeVersion}");
        var table = Tables.Create("Backend", "Device", "What");
        foreach (var backend in report.Backends)
        {
            foreach (var device in backend.Devices)
                table.AddRow(Tables.Cell(backend.Backend), Tables.Cell($"{device.Number}"), Tables.Cell(Describe(backend, device)));
            if (backend.Problem is { } problem)
                table.AddRow(Tables.Cell(backend.Backend), Tables.Cell(backend.Found ? "" : "none"), Tables.Cell(problem));
        }

        view.Write(table);
    }

    private static string Describe(BackendReport backend, DeviceReport device)
    {
        string threads = backend.Threads is { } count ? $", {count} threads" : "";
        string memory = device.MemoryBytes > 0 ? $", {ByteSize.Format(device.FreeMemoryBytes)} of {ByteSize.Format(device.MemoryBytes)} free" : "";
        string products = device switch
        {
            { CublasVersion: { } version } => $"; prompts by cuBLAS {version / 10000}.{version / 100 % 100}",
            { CublasProblem: { } problem } => $"; {problem}",
            _ => "",
        };
        return $"{device.Name} ({device.InstructionSet}{threads}{memory}){products}";
    }
}
