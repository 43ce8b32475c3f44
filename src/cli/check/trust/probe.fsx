open System
open System.Net.Http

let url = Array.last fsi.CommandLineArgs
try
    (new HttpClient()).GetAsync(url).Result |> ignore
with error ->
    eprintfn "%s" (error.GetBaseException().Message)
    exit 1
